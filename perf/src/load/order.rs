//! Which flow sends next, and how long its frame is.

use crate::traffic::{Flows, Order};
use clap::ValueEnum;
use serde::Serialize;

/// The order in which flows send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Pattern {
    /// Each as likely as any other
    Random,
    Sequential,
    /// The n-th most frequent sends 1/n as much as the first
    Zipf,
}

/// Draws of Zipf's law that are made beforehand and repeated: a logarithm for each packet would cost more than the packet.
const DRAWS: usize = 1 << 22;

/// Numbers of flows, one after another, without end.
#[derive(Debug)]
pub(crate) enum Sequence {
    Computed(Flows),
    Drawn { draws: Vec<u32>, at: usize },
}

impl Sequence {
    pub(crate) fn new(flows: u32, pattern: Pattern) -> Self {
        match pattern {
            Pattern::Random => Self::Computed(Flows::new(flows, Order::Random)),
            Pattern::Sequential => Self::Computed(Flows::new(flows, Order::Sequential)),
            Pattern::Zipf => {
                let mut uniform = Flows::new(u32::MAX, Order::Random);
                let zipf = Zipf::new(flows);
                // Scattered over the numbers, so that neighbours in popularity are not neighbours in address.
                let scatter = |rank: u32| (u64::from(rank) * 0x9e37_79b1 % u64::from(flows)) as u32;
                let mut unit = || f64::from(uniform.next()) / f64::from(u32::MAX);
                Self::Drawn { draws: (0..DRAWS).map(|_| scatter(zipf.draw(&mut unit))).collect(), at: 0 }
            }
        }
    }

    #[inline(always)]
    pub(crate) fn next(&mut self) -> u32 {
        match self {
            Self::Computed(flows) => flows.next(),
            Self::Drawn { draws, at } => {
                *at = if *at + 1 == draws.len() { 0 } else { *at + 1 };
                draws[*at]
            }
        }
    }
}

/// Zipf's law with exponent 1 over ranks from 0, by rejection-inversion (Hörmann and Derflinger, "Rejection-inversion to
/// generate variates from monotone discrete distributions", ACM TOMACS 6, 1996): the integral of 1/x is ln x.
#[derive(Debug)]
struct Zipf {
    ranks: f64,
    /// Integrals up to the first and beyond the last rank.
    first: f64,
    last: f64,
    /// Within this distance of a rank nothing needs to be rejected.
    sure: f64,
}

impl Zipf {
    fn new(ranks: u32) -> Self {
        let ranks = f64::from(ranks);
        Self {
            ranks,
            first: 1.5f64.ln() - 1.0,
            last: (ranks + 0.5).ln(),
            sure: 2.0 - (2.5f64.ln() - 0.5).exp(),
        }
    }

    /// A rank, from random numbers between 0 and 1.
    fn draw(&self, unit: &mut impl FnMut() -> f64) -> u32 {
        loop {
            let area = self.last + unit() * (self.first - self.last);
            let x = area.exp();
            let rank = x.round().clamp(1.0, self.ranks);
            if rank - x <= self.sure || area >= (rank + 0.5).ln() - 1.0 / rank {
                return rank as u32 - 1;
            }
        }
    }
}

/// Frame sizes in turn, frame check sequence included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sizes(pub(crate) Vec<u16>);

/// The simple IMIX: 7 of 64, 4 of 570 and 1 of 1518 bytes.
const IMIX: [u16; 12] = [64, 570, 64, 64, 570, 64, 1518, 64, 570, 64, 570, 64];

impl std::str::FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "imix" {
            return Ok(Self(IMIX.to_vec()));
        }
        let size = |word: &str| match word.trim().parse() {
            Ok(size @ 64..=1518) => Ok(size),
            _ => Err(format!("{word:?} is neither \"imix\" nor a frame size from 64 to 1518 bytes")),
        };
        text.split(',').map(size).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_draws_follow_the_law() {
        const FLOWS: u32 = 1000;
        let mut sequence = Sequence::new(FLOWS, Pattern::Zipf);
        let mut counts = vec![0u32; FLOWS as usize];
        for _ in 0..DRAWS {
            counts[sequence.next() as usize] += 1;
        }
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let harmonic: f64 = (1..=FLOWS).map(|n| 1.0 / f64::from(n)).sum();
        for rank in [1, 2, 5, 10, 50] {
            let expected = DRAWS as f64 / harmonic / f64::from(rank);
            let got = f64::from(counts[rank as usize - 1]);
            assert!((got / expected - 1.0).abs() < 0.05, "rank {rank}: {got} of {expected}");
        }
        assert!(counts.iter().all(|&count| count > 0), "every flow sends");
    }

    #[test]
    fn every_order_stays_within_the_flows() {
        for pattern in [Pattern::Random, Pattern::Sequential, Pattern::Zipf] {
            for flows in [1, 2, 3, 1000] {
                let mut sequence = Sequence::new(flows, pattern);
                assert!((0..10_000).all(|_| sequence.next() < flows), "{pattern:?} {flows}");
            }
        }
    }

    #[test]
    fn sizes_are_lists_or_imix() {
        assert_eq!("64,1518".parse(), Ok(Sizes(vec![64, 1518])));
        let imix: Sizes = "imix".parse().expect("known");
        let mean = imix.0.iter().map(|&size| f64::from(size)).sum::<f64>() / imix.0.len() as f64;
        assert!((353.0..354.0).contains(&mean), "{mean}");
        assert!(
            "60".parse::<Sizes>().is_err()
                && "".parse::<Sizes>().is_err()
                && "jumbo".parse::<Sizes>().is_err()
        );
    }
}
