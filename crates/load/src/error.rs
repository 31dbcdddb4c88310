//! What can be wrong with a load. Messages read after "failed to …:".

/// An arrival process, a rate or a length that cannot be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LoadError {
    /// The rate is not a positive number.
    #[error("the rate is {0} requests/s; it must be a positive number")]
    Rate(f64),
    /// The coefficient of variation is out of range.
    #[error(
        "the coefficient of variation is {cv}; for {process} it must lie between {low} and {high} \
         (0 is the constant process, 1 the Poisson process)"
    )]
    Cv {
        /// Process.
        process: &'static str,
        /// Given.
        cv: f64,
        /// Smallest accepted.
        low: f64,
        /// Largest accepted.
        high: f64,
    },
    /// A number of a rate profile is out of range.
    #[error("`{field}` of the {profile} profile is {value}; it must be {rule}")]
    Profile {
        /// Profile.
        profile: &'static str,
        /// Field.
        field: &'static str,
        /// Given.
        value: f64,
        /// What would be right.
        rule: &'static str,
    },
    /// Steps of a profile are not in time order.
    #[error("the steps of the profile are not in time order: {0} s follows {1} s")]
    Steps(f64, f64),
    /// The rate falls to zero for good before enough requests have arrived.
    #[error(
        "the rate ends at zero after {have} arrivals and {asked} were asked for; ask for fewer or let the rate stay above zero"
    )]
    Ends {
        /// Arrivals there are.
        have: usize,
        /// Arrivals asked for.
        asked: usize,
    },
    /// Arrivals without a mean distance.
    #[error("{0} arrivals, or all at one time, have no rate; ask for more")]
    NoMean(usize),
    /// More arrivals than can be kept in memory.
    #[error("about {0:.0} arrivals were asked for; at most {most} are made", most = crate::MOST_ARRIVALS)]
    TooMany(f64),
}
