//! What a session is for, and which scopes of access it therefore asks a token server for. Pure.

/// What a session is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To fetch from its repository.
    Pull,
    /// To upload to its repository, and to take content over from other repositories of the same registry.
    Push {
        /// The other repositories.
        sources: Vec<String>,
    },
    /// To find out whether the registry takes the credentials.
    LogIn,
    /// To look into the registry as a whole.
    Look,
}

impl Purpose {
    /// The scopes to ask for: own ones, and those of a challenge.
    pub(super) fn scopes(&self, repository: &str, challenged: Option<&str>) -> Vec<String> {
        let mut scopes = self.own_scopes(repository, challenged);
        if let Self::Push { sources } = self {
            for source in sources {
                let scope = format!("repository:{source}:pull");
                if !scopes.contains(&scope) {
                    scopes.push(scope);
                }
            }
        }
        scopes
    }

    /// The same without what a push would only like to have.
    pub(super) fn own_scopes(&self, repository: &str, challenged: Option<&str>) -> Vec<String> {
        // Several scopes of one challenge are separated by spaces.
        let challenged: Vec<String> = challenged
            .into_iter()
            .flat_map(|text| text.split(' '))
            .filter(|scope| !scope.is_empty())
            .map(str::to_owned)
            .collect();
        match self {
            Self::Pull if challenged.is_empty() => vec![format!("repository:{repository}:pull")],
            Self::Pull | Self::Look => challenged,
            // The challenge of the first request asks for less than the later ones need.
            Self::Push { .. } => {
                let own = format!("repository:{repository}:pull,push");
                let narrower = format!("repository:{repository}:pull");
                let mut scopes = vec![own];
                for scope in challenged {
                    if scope != narrower && !scopes.contains(&scope) {
                        scopes.push(scope);
                    }
                }
                scopes
            }
            Self::LogIn => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_purpose_asks_for_what_it_needs() {
        let push = Purpose::Push {
            sources: vec!["library/busybox".into()],
        };
        assert_eq!(
            push.scopes("me/app", Some("repository:me/app:pull")),
            [
                "repository:me/app:pull,push",
                "repository:library/busybox:pull"
            ]
        );
        assert_eq!(
            push.scopes(
                "me/app",
                Some("repository:library/busybox:pull repository:me/app:pull,push")
            ),
            [
                "repository:me/app:pull,push",
                "repository:library/busybox:pull"
            ]
        );
        assert_eq!(
            push.own_scopes("me/app", None),
            ["repository:me/app:pull,push"]
        );
        assert_eq!(Purpose::Pull.scopes("a", None), ["repository:a:pull"]);
        assert_eq!(
            Purpose::Pull.scopes("a", Some("repository:a:pull,push")),
            ["repository:a:pull,push"]
        );
        assert_eq!(
            Purpose::Look.scopes("", Some("registry:catalog:*")),
            ["registry:catalog:*"]
        );
        assert!(Purpose::LogIn.scopes("", Some("x")).is_empty());
    }
}
