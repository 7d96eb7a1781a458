//! What restores that did not end have left in a service.

/// A name in a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceName {
    /// Which server it is, as the server itself says it: the same name elsewhere is another thing.
    pub server: String,
    /// The name.
    pub name: String,
}

/// What a restore makes in a service, and what is left there where it doesn't end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remains {
    /// Where data goes to, and nothing stood before but what an earlier restore had begun: it may be replaced without being
    /// asked for.
    pub targets: Vec<ServiceName>,
    /// What restores have made and no later one goes on with. Somebody may have written to it since.
    pub leftovers: Vec<ServiceName>,
}

impl Remains {
    /// Whether such a restore loads, or has begun to load, into that name.
    pub fn has_target(&self, server: &str, name: &str) -> bool {
        has(&self.targets, server, name)
    }

    /// Whether it has left that name.
    pub fn has_leftover(&self, server: &str, name: &str) -> bool {
        has(&self.leftovers, server, name)
    }

    /// These and those.
    pub fn and(mut self, other: &Remains) -> Self {
        for (all, more) in [(&mut self.targets, &other.targets), (&mut self.leftovers, &other.leftovers)] {
            let new: Vec<ServiceName> = more.iter().filter(|name| !all.contains(name)).cloned().collect();
            all.extend(new);
        }
        self
    }
}

fn has(names: &[ServiceName], server: &str, name: &str) -> bool {
    names.iter().any(|known| known.server == server && known.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_that_of_its_server() {
        let name = |server: &str, name: &str| ServiceName { server: server.to_owned(), name: name.to_owned() };
        let remains = Remains { targets: vec![name("a", "shop")], leftovers: vec![name("a", "shop_loading_1")] };
        assert!(remains.has_target("a", "shop") && remains.has_leftover("a", "shop_loading_1"));
        assert!(!remains.has_target("b", "shop") && !remains.has_target("a", "shop_loading_1"));
        let more = Remains { targets: vec![name("a", "shop"), name("b", "shop")], leftovers: Vec::new() };
        assert_eq!(remains.clone().and(&more).targets, more.targets);
        assert_eq!(remains.clone().and(&more).leftovers, remains.leftovers);
    }
}
