//! A step while it is put together.

use berth_types::Timestamp;

use super::{Durability, Effect, News, Refusal, Step};
use crate::containers::phase::{Phase, StartCause};
use crate::containers::record::ContainerRecord;

/// A step under construction.
pub(super) struct Draft {
    pub(super) record: ContainerRecord,
    pub(super) effects: Vec<Effect>,
    pub(super) news: Vec<News>,
    pub(super) durability: Durability,
}

impl Draft {
    pub(super) fn of(record: &ContainerRecord) -> Self {
        Self {
            record: record.clone(),
            effects: Vec::new(),
            news: Vec::new(),
            durability: Durability::Now,
        }
    }

    pub(super) fn phase(mut self, phase: Phase) -> Self {
        self.record.phase = phase;
        self
    }

    pub(super) fn effect(mut self, effect: Effect) -> Self {
        self.effects.push(effect);
        self
    }

    pub(super) fn news(mut self, news: News) -> Self {
        self.news.push(news);
        self
    }

    pub(super) fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    #[allow(clippy::unnecessary_wraps)]
    pub(super) fn done(self) -> Result<Step, Refusal> {
        Ok(Step {
            record: Some(self.record),
            effects: self.effects,
            news: self.news,
            durability: self.durability,
        })
    }

    /// Towards a run.
    pub(super) fn starting(mut self, cause: StartCause, now: Timestamp) -> Self {
        self.record.phase = Phase::Starting { since: now, cause };
        self.record.restart_cancelled = false;
        self.record.pending_resources = None;
        self.record.last.error.clear();
        if matches!(cause, StartCause::User | StartCause::Restart) {
            self.record.stopped_by_user = false;
            self.record.restart_count = 0;
            self.record.backoff_milliseconds = 0;
        }
        self.effect(Effect::Start)
    }

    /// The program runs from here on.
    pub(super) fn running(mut self, pid: u32, at: Timestamp) -> Self {
        self.record.was_started = true;
        self.record.last = crate::containers::record::LastRun {
            started_at: at,
            finished_at: self.record.last.finished_at,
            ..Default::default()
        };
        self.record.health = self
            .record
            .spec
            .config
            .healthcheck
            .as_ref()
            .filter(|h| h.enabled())
            .map(|_| crate::containers::health::Health::starting());
        self.record.phase = Phase::Running { pid, since: at };
        self
    }

    /// Towards its removal, of which those who asked are told when it is done.
    pub(super) fn removing(mut self, volumes: bool) -> Self {
        self.record.phase = Phase::Removing {
            volumes,
            unseen: false,
        };
        self.effect(Effect::Remove { volumes })
    }

    /// Gone, since it was to go by itself: nobody has to wait until its files are. From the saved intent, or from any
    /// earlier record of a container that removes itself, a daemon comes to the same end.
    pub(super) fn vanishing(mut self) -> Self {
        self.record.phase = Phase::Removing {
            volumes: true,
            unseen: true,
        };
        self.news(News::Destroyed)
            .effect(Effect::Remove { volumes: true })
    }
}
