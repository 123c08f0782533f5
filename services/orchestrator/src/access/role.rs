//! Roles, and sets of them.

use std::fmt;

use contracts::orchestrator::Role;

/// A set of roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles(u8);

/// Every role, in the order of the contract.
pub const ROLES: [Role; 5] = [
    Role::Viewer,
    Role::Operator,
    Role::Approver,
    Role::Admin,
    Role::Agent,
];

impl Roles {
    /// These.
    pub const fn of(roles: &[Role]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < roles.len() {
            bits |= bit(roles[index]);
            index += 1;
        }
        Self(bits)
    }

    /// Those of names such as `operator`; the first name that is none.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        names.into_iter().try_fold(Self::default(), |roles, name| {
            let role = ROLES.into_iter().find(|role| role_name(*role) == name);
            role.map(|role| Self(roles.0 | bit(role))).ok_or(name)
        })
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether one of them is in both.
    pub fn meet(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// All of both.
    #[must_use]
    pub fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Each, in the order of the contract.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        ROLES
            .into_iter()
            .filter(move |role| self.0 & bit(*role) != 0)
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing");
        }
        for (index, role) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            f.write_str(role_name(role))?;
        }
        Ok(())
    }
}

/// A role as people type it.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Unspecified => "nothing",
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Approver => "approver",
        Role::Admin => "admin",
        Role::Agent => "agent",
    }
}

const fn bit(role: Role) -> u8 {
    match role {
        Role::Unspecified => 0,
        Role::Viewer => 1,
        Role::Operator => 1 << 1,
        Role::Approver => 1 << 2,
        Role::Admin => 1 << 3,
        Role::Agent => 1 << 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_sets_and_names_of_none_are_refused() {
        let roles = Roles::parse(["operator", "approver", "operator"]).unwrap();
        assert_eq!(roles, Roles::of(&[Role::Approver, Role::Operator]));
        assert_eq!(roles.to_string(), "operator, approver");
        assert!(roles.meet(Roles::of(&[Role::Approver, Role::Admin])));
        assert!(!roles.meet(Roles::of(&[Role::Viewer, Role::Admin, Role::Agent])));
        assert_eq!(Roles::parse(["admin", "root"]), Err("root"));
        assert!(Roles::of(&[Role::Unspecified]).is_empty());
    }
}
