//! Sets of methods.

/// The methods a route takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Methods {
    /// Any but CONNECT and TRACE.
    Any,
    /// These. HEAD is taken wherever GET is: it asks for the same thing (RFC 9110 section 9.3.2).
    These(Box<[Box<str>]>),
}

impl Methods {
    /// Their names; `None` for any.
    pub fn names(&self) -> Option<&[Box<str>]> {
        match self {
            Self::Any => None,
            Self::These(methods) => Some(methods),
        }
    }

    /// Whether `method` is one of them. Methods are case-sensitive.
    pub fn contain(&self, method: &str) -> bool {
        match self {
            Self::Any => method != "TRACE" && method != "CONNECT",
            Self::These(methods) => {
                methods.iter().any(|known| **known == *method || (&**known == "GET" && method == "HEAD"))
            }
        }
    }

    /// Whether some method is in both sets.
    pub fn overlap(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, Self::Any) => true,
            (Self::Any, Self::These(methods)) | (Self::These(methods), Self::Any) => {
                methods.iter().any(|method| Self::Any.contain(method))
            }
            (Self::These(ours), Self::These(theirs)) => {
                ours.iter().any(|method| other.contain(method))
                    || theirs.iter().any(|method| self.contain(method))
            }
        }
    }

    /// All of `sets` together, as the value of `Allow`.
    pub fn allow_line<'a>(sets: impl Iterator<Item = &'a Self>) -> String {
        let mut all: Vec<&str> = Vec::new();
        for set in sets {
            match set {
                Self::Any => all.extend(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
                Self::These(methods) => {
                    for method in methods {
                        all.push(method);
                        if &**method == "GET" {
                            all.push("HEAD");
                        }
                    }
                }
            }
        }
        let mut seen = Vec::new();
        all.retain(|method| {
            let new = !seen.contains(method);
            seen.push(*method);
            new
        });
        all.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn these(methods: &[&str]) -> Methods {
        Methods::These(methods.iter().map(|&method| method.into()).collect())
    }

    #[test]
    fn membership() {
        assert!(Methods::Any.contain("PROPFIND") && !Methods::Any.contain("TRACE"));
        assert!(these(&["GET"]).contain("HEAD") && !these(&["HEAD"]).contain("GET"));
        assert!(!these(&["GET"]).contain("get"));
    }

    #[test]
    fn overlaps() {
        assert!(these(&["GET", "POST"]).overlap(&these(&["POST"])));
        assert!(these(&["GET"]).overlap(&these(&["HEAD"])) && these(&["HEAD"]).overlap(&these(&["GET"])));
        assert!(!these(&["GET"]).overlap(&these(&["POST"])));
        assert!(Methods::Any.overlap(&these(&["POST"])) && !Methods::Any.overlap(&these(&["TRACE"])));
    }

    #[test]
    fn allow_lines() {
        let (get, post) = (these(&["GET"]), these(&["POST", "GET"]));
        assert_eq!(Methods::allow_line([&get, &post].into_iter()), "GET, HEAD, POST");
    }
}
