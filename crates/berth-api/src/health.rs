//! Health checks: how they are asked for and what they found.

wire! {
    /// How a container's health is checked.
    pub struct HealthConfig {
        /// `[]` inherits, `["NONE"]` disables, `["CMD", …]` executes, `["CMD-SHELL", command]` uses the shell.
        test: Vec<String> = "Test" omitempty;
        /// Nanoseconds; 0 inherits.
        interval: i64 = "Interval" omitempty;
        /// Nanoseconds; 0 inherits.
        timeout: i64 = "Timeout" omitempty;
        /// Nanoseconds; 0 inherits.
        start_period: i64 = "StartPeriod" omitempty;
        /// Nanoseconds; 0 inherits.
        start_interval: i64 = "StartInterval" omitempty;
        /// Failures in a row that make it unhealthy; 0 inherits.
        retries: i64 = "Retries" omitempty;
    }

    /// What the checks of a container found.
    pub struct Health {
        /// `starting`, `healthy` or `unhealthy`.
        status: String = "Status";
        failing_streak: i64 = "FailingStreak";
        /// The last results, oldest first.
        log: Option<Vec<HealthcheckResult>> = "Log";
    }

    /// One run of a health check.
    pub struct HealthcheckResult {
        /// RFC 3339 with nanoseconds.
        start: String = "Start";
        /// RFC 3339 with nanoseconds.
        end: String = "End";
        /// 0 healthy, 1 unhealthy, anything else an error of the check itself.
        exit_code: i64 = "ExitCode";
        output: String = "Output";
    }
}
