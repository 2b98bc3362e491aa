//! A proxy on loopback that breaks connections in the middle.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result};

/// A running proxy; ends when dropped.
#[derive(Debug)]
pub struct CuttingProxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: u16,
    /// Bytes from the client after which a connection is cut.
    after: u64,
    /// How many connections are still to be cut.
    cuts: AtomicUsize,
    /// How many were.
    done: AtomicUsize,
    sent: AtomicU64,
    ended: AtomicBool,
}

impl CuttingProxy {
    /// Passes connections on to `target` on 127.0.0.1, and cuts `cuts` of them after `after` bytes from the client.
    #[track_caller]
    pub fn start(target: u16, after: u64, cuts: usize) -> Self {
        match Self::try_start(target, after, cuts) {
            Ok(proxy) => proxy,
            Err(error) => panic!("{error:#}"),
        }
    }

    fn try_start(target: u16, after: u64, cuts: usize) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("listen on a free port")?;
        let port = listener.local_addr().context("ask for the port")?.port();
        let shared = Arc::new(Shared {
            target,
            after,
            cuts: AtomicUsize::new(cuts),
            done: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if serving.ended.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&serving);
                thread::spawn(move || pass(&client, &shared));
            }
        });
        Ok(Self { port, shared })
    }

    /// `127.0.0.1:port`, as in a reference.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> usize {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// Bytes that clients sent through it.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for connections.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn pass(client: &TcpStream, shared: &Shared) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", shared.target)) else {
        return;
    };
    let (Ok(mut back), Ok(mut answers)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    thread::spawn(move || {
        drop(std::io::copy(&mut answers, &mut back));
        drop(back.shutdown(Shutdown::Both));
    });
    let (mut from, mut to) = (client, &server);
    let mut buffer = [0_u8; 16 << 10];
    let mut passed = 0;
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        passed += count as u64;
        shared.sent.fetch_add(count as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
        let cut = |left: usize| left.checked_sub(1);
        if passed >= shared.after
            && shared
                .cuts
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, cut)
                .is_ok()
        {
            shared.done.fetch_add(1, Ordering::Relaxed);
            break;
        }
    }
    drop(server.shutdown(Shutdown::Both));
    drop(client.shutdown(Shutdown::Both));
}
