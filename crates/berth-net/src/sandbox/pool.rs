//! The stock of sandboxes made ahead.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::{Result, Sandbox};
use crate::limits;
use crate::link::Host;

/// Sandboxes with a prepared veth pair, made by one thread before they are asked for.
///
/// ```text
///  take ──▶ ready ──▶ given at once          thread: makes until `ready` holds `wanted`
///       └─▶ empty ──▶ made by the caller     empty: `wanted` doubles; idle: `wanted` halves, the surplus is dropped
/// ```
#[derive(Debug)]
pub struct SandboxPool {
    shared: Arc<Shared>,
    maker: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    host: Arc<Host>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    ready: VecDeque<Sandbox>,
    wanted: usize,
    mtu: u32,
    /// Whether any was taken since the thread last looked.
    demand: bool,
    /// Whether the last attempt to make one ahead failed: then the next demand tries again.
    failed: bool,
    stopping: bool,
    figures: PoolFigures,
}

/// What the pool has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolFigures {
    /// Held ready now.
    pub ready: usize,
    /// Held ready when nobody takes any more.
    pub wanted: usize,
    /// Given from stock.
    pub given: u64,
    /// Made while somebody waited, the stock being empty.
    pub made_at_once: u64,
}

impl SandboxPool {
    /// Starts making; pairs carry packets of `mtu` bytes until an endpoint's plan says otherwise.
    pub fn new(host: Arc<Host>, mtu: u32) -> Result<Self> {
        let shared = Arc::new(Shared {
            host,
            state: Mutex::new(State {
                ready: VecDeque::new(),
                wanted: limits::POOL_LEAST,
                mtu,
                demand: false,
                failed: false,
                stopping: false,
                figures: PoolFigures::default(),
            }),
            changed: Condvar::new(),
        });
        let maker = std::thread::Builder::new()
            .name("sandbox pool".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.keep_stock()
            })
            .map_err(|cause| crate::netlink::Error::io("start the sandbox pool", cause))?;
        Ok(Self {
            shared,
            maker: Some(maker),
        })
    }

    /// A sandbox with a prepared pair: from stock, or made at once.
    pub fn take(&self) -> Result<Sandbox> {
        let mtu = {
            let mut state = self.shared.state();
            state.demand = true;
            state.failed = false;
            let taken = state.ready.pop_front();
            match taken {
                Some(_) => state.figures.given += 1,
                None => {
                    state.figures.made_at_once += 1;
                    state.wanted = (state.wanted * 2).min(limits::POOL_MOST);
                }
            }
            self.shared.changed.notify_one();
            if let Some(sandbox) = taken {
                return Ok(sandbox);
            }
            state.mtu
        };
        Sandbox::with_pair(&self.shared.host, mtu)
    }

    /// Pairs made from now on carry packets of `mtu` bytes; what is in stock is dropped.
    pub fn set_mtu(&self, mtu: u32) {
        let mut state = self.shared.state();
        if state.mtu != mtu {
            state.mtu = mtu;
            let stale = std::mem::take(&mut state.ready);
            self.shared.changed.notify_one();
            drop(state);
            drop(stale);
        }
    }

    /// Figures for reports and tests.
    #[must_use]
    pub fn figures(&self) -> PoolFigures {
        let state = self.shared.state();
        PoolFigures {
            ready: state.ready.len(),
            wanted: state.wanted,
            ..state.figures
        }
    }
}

impl Drop for SandboxPool {
    fn drop(&mut self) {
        self.shared.state().stopping = true;
        self.shared.changed.notify_one();
        if let Some(maker) = self.maker.take() {
            // A panic of the thread was reported by the panic hook; what it held is dropped either way.
            let _ = maker.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_stock(&self) {
        let mut state = self.state();
        loop {
            if state.stopping {
                return;
            }
            if state.ready.len() < state.wanted && !state.failed {
                let mtu = state.mtu;
                drop(state);
                let made = Sandbox::with_pair(&self.host, mtu);
                state = self.state();
                match made {
                    Ok(sandbox) if state.mtu == mtu => state.ready.push_back(sandbox),
                    Ok(_) => {}
                    // Whoever takes one finds the same and reports it.
                    Err(_) => state.failed = true,
                }
                continue;
            }
            let (mut next, waited) = self
                .changed
                .wait_timeout(state, limits::POOL_IDLE)
                .unwrap_or_else(PoisonError::into_inner);
            if waited.timed_out() && !std::mem::take(&mut next.demand) {
                next.wanted = (next.wanted / 2).max(limits::POOL_LEAST);
                let wanted = next.wanted;
                let keep = next.ready.len().min(wanted);
                let surplus = next.ready.split_off(keep);
                drop(next);
                drop(surplus);
                next = self.state();
            }
            state = next;
        }
    }
}
