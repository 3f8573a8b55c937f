//! Who may connect to the control socket, and who may change things through it.
//!
//! Connecting is decided by the socket's group and mode, changing by the credentials that the kernel has of the peer: its
//! user and its group. Names are looked up when a configuration takes effect, never while a peer waits: a directory service
//! may be slow.

use ctl::config::Runtime;
use nix::unistd::{Group, User, geteuid};
use std::collections::BTreeSet;

/// Who may change things besides root and the daemon's own user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    users: BTreeSet<u32>,
    /// Primary groups of peers; the users who are members otherwise are among `users`.
    groups: BTreeSet<u32>,
}

impl Access {
    /// Looks up `operators` of the configuration. What the machine does not know is left out, and told.
    pub fn of(operators: &[String]) -> (Self, Vec<String>) {
        Self::resolve(operators, &System)
    }

    fn resolve(operators: &[String], accounts: &impl Accounts) -> (Self, Vec<String>) {
        let mut access = Self::default();
        let mut unknown = Vec::new();
        for operator in operators {
            let known = match operator.strip_prefix('@') {
                None => accounts.user(operator).map(|user| access.users.insert(user)).is_some(),
                Some(group) => accounts
                    .group(group)
                    .map(|(group, members)| {
                        access.groups.insert(group);
                        access.users.extend(members.iter().filter_map(|member| accounts.user(member)));
                    })
                    .is_some(),
            };
            if !known {
                unknown.push(format!(
                    "runtime.operators: this machine has no {operator:?}, who may change nothing until it has and the \
                     configuration is read again (SIGHUP)"
                ));
            }
        }
        (access, unknown)
    }

    /// Whether a peer may change things.
    pub fn may_change(&self, user: u32, group: u32) -> bool {
        user == 0 || user == own_user() || self.users.contains(&user) || self.groups.contains(&group)
    }
}

/// The daemon's user.
pub(super) fn own_user() -> u32 {
    geteuid().as_raw()
}

/// The number of the group that may connect; `None`: the daemon's.
///
/// # Errors
/// There is no such group, in words.
pub fn socket_group(runtime: &Runtime) -> Result<Option<u32>, String> {
    runtime.socket_group.as_deref().map(|name| group_number(name, &System)).transpose()
}

fn group_number(name: &str, accounts: &impl Accounts) -> Result<u32, String> {
    accounts.group(name).map(|(group, _)| group).ok_or_else(|| {
        format!(
            "runtime.socket_group: this machine has no group {name:?}; make it (groupadd --system {name}), or remove the key \
             for the daemon's own group"
        )
    })
}

/// The system's users and groups.
trait Accounts {
    fn user(&self, name: &str) -> Option<u32>;
    /// The number, and the names of those who are members without it being their primary group.
    fn group(&self, name: &str) -> Option<(u32, Vec<String>)>;
}

/// As the name service knows them. A number stands for itself.
struct System;

impl Accounts for System {
    fn user(&self, name: &str) -> Option<u32> {
        name.parse().ok().or_else(|| Some(User::from_name(name).ok()??.uid.as_raw()))
    }

    fn group(&self, name: &str) -> Option<(u32, Vec<String>)> {
        let found = match name.parse() {
            Ok(number) => Group::from_gid(nix::unistd::Gid::from_raw(number)),
            Err(_) => Group::from_name(name),
        };
        match (found.ok().flatten(), name.parse()) {
            (Some(group), _) => Some((group.gid.as_raw(), group.mem)),
            (None, Ok(number)) => Some((number, Vec::new())),
            (None, Err(_)) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Office;

    impl Accounts for Office {
        fn user(&self, name: &str) -> Option<u32> {
            ["alice", "bob", "carol"].iter().position(|known| *known == name).map(|at| 1000 + at as u32)
        }

        fn group(&self, name: &str) -> Option<(u32, Vec<String>)> {
            (name == "netops").then(|| (50, vec!["bob".into(), "gone".into()]))
        }
    }

    fn access(operators: &[&str]) -> (Access, Vec<String>) {
        let operators: Vec<String> = operators.iter().map(ToString::to_string).collect();
        Access::resolve(&operators, &Office)
    }

    #[test]
    fn root_and_the_daemons_user_always_may() {
        let (access, unknown) = access(&[]);
        assert!(access.may_change(0, 0) && access.may_change(own_user(), 7) && unknown.is_empty());
        assert!(!access.may_change(own_user() + 1000, 0), "a group makes no operator by itself");
    }

    #[test]
    fn users_and_members_of_groups_may() {
        let (access, unknown) = access(&["alice", "@netops"]);
        assert!(unknown.is_empty());
        assert!(access.may_change(1000, 9), "named");
        assert!(access.may_change(1001, 9), "a member");
        assert!(access.may_change(4711, 50), "the primary group");
        assert!(!access.may_change(1002, 9), "carol");
    }

    #[test]
    fn who_is_not_known_is_told_and_nobody_takes_the_place() {
        let (access, unknown) = access(&["mallory", "@nobody-knows", "alice"]);
        assert_eq!(unknown.len(), 2);
        assert!(
            unknown[0].contains("\"mallory\"") && unknown[1].contains("\"@nobody-knows\""),
            "{unknown:?}"
        );
        assert!(access.may_change(1000, 9) && !access.may_change(1001, 50));
    }

    #[test]
    fn a_socket_group_must_exist() {
        assert_eq!(group_number("netops", &Office), Ok(50));
        let error = group_number("sluice", &Office).unwrap_err();
        assert!(
            error.contains("no group \"sluice\"") && error.contains("groupadd --system sluice"),
            "{error}"
        );
        assert_eq!(group_number("4711", &System), Ok(4711), "numbers stand for themselves");
    }
}
