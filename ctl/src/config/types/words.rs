//! Keywords: values that are one of a few words.

use super::{ValueError, quote, serde_as_text};
use crate::config::suggest::nearest;
use std::fmt;
use std::str::FromStr;

/// An enumeration whose variants are words of the configuration file.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word in the file and in JSON.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = ValueError;

            fn from_str(text: &str) -> Result<Self, ValueError> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(unknown(text, &[$($word),+])),
                }
            }
        }

        serde_as_text!($name);
    };
}

/// "is not one of …", with the nearest word when there is one.
fn unknown(text: &str, words: &[&str]) -> ValueError {
    let list = alternatives(words);
    let remedy = match nearest(text, words) {
        Some(word) => format!("did you mean {word:?}? (it may be {list})"),
        None => format!("use {list}"),
    };
    ValueError::new(format!("{} is not known here", quote(text)), remedy)
}

/// `"a", "b" or "c"`
fn alternatives(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => format!("{one:?}"),
        [first @ .., last] => {
            let first: Vec<_> = first.iter().map(|word| format!("{word:?}")).collect();
            format!("{} or {last:?}", first.join(", "))
        }
    }
}

words! {
    /// The transport protocol of a service.
    Protocol {
        Tcp = "tcp",
        Udp = "udp",
    }
}

words! {
    /// How packets of a service are rewritten on their way to a backend.
    Mode {
        /// The destination is rewritten; replies come back through the balancer.
        Nat = "nat",
        /// Source and destination are rewritten.
        FullNat = "full-nat",
        /// Direct server return: the backend holds the VIP and answers the client itself.
        Dsr = "dsr",
    }
}

words! {
    /// How a `dsr` service reaches its backends.
    Tunnel {
        /// On the same link: only the destination MAC address is rewritten.
        None = "none",
        /// IP in IP, RFC 2003 and RFC 2473.
        Ipip = "ipip",
        /// Generic UDP encapsulation.
        Gue = "gue",
        /// Generic routing encapsulation, RFC 2784.
        Gre = "gre",
        /// No header: addressed to the backend, and the DSCP names the VIP.
        L3dsr = "l3dsr",
    }
}

words! {
    /// How a new connection gets its backend.
    Scheduler {
        /// Consistent hashing; balancers with the same configuration agree.
        Maglev = "maglev",
        /// Weighted round-robin, per worker.
        RoundRobin = "round-robin",
        /// The backend with the fewest connections for its weight, those of all workers counted.
        LeastConnections = "least-connections",
        /// Consistent hashing of the client's address alone, unless `hash_fields` says otherwise.
        SourceHash = "source-hash",
    }
}

words! {
    /// Parts of a flow that a hashing scheduler looks at.
    HashField {
        SourceAddress = "source-address",
        SourcePort = "source-port",
        DestinationAddress = "destination-address",
        DestinationPort = "destination-port",
    }
}

words! {
    /// What makes connections of one client go to one backend.
    Affinity {
        None = "none",
        /// The same client address goes to the same backend.
        SourceIp = "source-ip",
    }
}

words! {
    /// What becomes of a TCP segment in mid-connection that no entry knows, as after a restart.
    UnknownConnections {
        /// It goes to the backend that the scheduler names, and the connection is tracked from there on.
        Adopt = "adopt",
        /// Its sender gets a reset.
        Reset = "reset",
    }
}

words! {
    /// What a worker does when there is nothing to receive.
    Poll {
        /// It waits longer and longer between empty polls, up to a bound.
        Adaptive = "adaptive",
        /// It never waits.
        Busy = "busy",
    }
}

words! {
    /// What decides which worker owns a connection.
    Steering {
        /// What the ports hash, where that is known; else as `software`.
        Auto = "auto",
        /// A secret hash; ports spread packets as they will, and workers hand them over.
        Software = "software",
    }
}

words! {
    /// How backends are checked.
    HealthType {
        Tcp = "tcp",
        Http = "http",
        Https = "https",
        Udp = "udp",
        Icmp = "icmp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<T: FromStr<Err = ValueError> + fmt::Display + PartialEq + fmt::Debug + Copy>(all: &[T]) {
        for &value in all {
            assert_eq!(value.to_string().parse::<T>().unwrap(), value);
        }
    }

    #[test]
    fn every_word_reads_back() {
        round_trip(Protocol::ALL);
        round_trip(Mode::ALL);
        round_trip(Tunnel::ALL);
        round_trip(Scheduler::ALL);
        round_trip(HashField::ALL);
        round_trip(Affinity::ALL);
        round_trip(UnknownConnections::ALL);
        round_trip(Poll::ALL);
        round_trip(Steering::ALL);
        round_trip(HealthType::ALL);
    }

    #[test]
    fn a_near_miss_is_suggested() {
        let error = "roundrobin".parse::<Scheduler>().unwrap_err();
        assert_eq!(error.problem, "\"roundrobin\" is not known here");
        assert_eq!(
            error.remedy,
            "did you mean \"round-robin\"? (it may be \"maglev\", \"round-robin\", \"least-connections\" or \"source-hash\")"
        );
    }

    #[test]
    fn a_far_miss_lists_the_words() {
        let error = "sctp".parse::<Mode>().unwrap_err();
        assert_eq!(error.remedy, "use \"nat\", \"full-nat\" or \"dsr\"");
    }
}
