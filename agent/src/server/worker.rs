//! A server thread: keeps its family's port as ordered, and serves it. Ends when the server is dropped.
use std::{
    os::fd::AsFd,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use sys::poll::{self, Waker};
use tracing::{info, warn};

use super::{Family, Orders, ServerSocket, ServingState, Shared};

/// A port that could not be opened is tried again after this.
const RETRY: Duration = Duration::from_secs(5);

/// After so many datagrams it is looked whether the port is still wanted.
const BATCH: usize = 64;

pub(super) fn run(shared: &Shared, family: Family, waker: &Waker) {
    let mut view = View::new(shared);
    let mut socket: Option<ServerSocket> = None;
    while !stopped(&shared.stop) {
        view.refresh(shared);
        let wanted = view.orders.config.enabled.then_some(view.orders.config.port);
        if socket.as_ref().map(ServerSocket::port) != wanted {
            // The old one first: it may be the one that holds the port.
            drop(socket.take());
            socket = keep_open(shared, family, wanted);
        }
        let ready = match &socket {
            Some(open) => poll::readable(&[waker.as_fd(), open.as_fd()], None),
            None => poll::readable(&[waker.as_fd()], wanted.map(|_| RETRY)),
        };
        // An interrupted wait says nothing about the port; neither does any other failure of it.
        let Ok(ready) = ready else { continue };
        if ready[0] {
            waker.clear();
        }
        if let (Some(true), Some(open)) = (ready.get(1), &mut socket)
            && let Err(error) = serve(shared, &mut view, open)
        {
            set_state(shared, family, ServingState::Failed(failure(family, open.port(), error)));
            socket = None;
            // Not at once again, in case that it is broken for good.
            let _ = poll::readable(&[waker.as_fd()], Some(RETRY));
        }
    }
}

fn serve(shared: &Shared, view: &mut View, socket: &mut ServerSocket) -> Result<(), sys::Error> {
    for _ in 0..BATCH {
        let Some(came) = socket.receive()? else { break };
        // What was published before it came is what it is answered with.
        view.refresh(shared);
        socket.answer(came, &view.orders.config, &view.orders.served, &shared.counters);
    }
    Ok(())
}

fn keep_open(shared: &Shared, family: Family, wanted: Option<u16>) -> Option<ServerSocket> {
    let Some(port) = wanted else {
        set_state(shared, family, ServingState::Closed);
        return None;
    };
    match ServerSocket::open(family, port) {
        Ok(socket) => {
            set_state(shared, family, ServingState::Open);
            Some(socket)
        }
        Err(error) if error.no_such_family() => {
            set_state(shared, family, ServingState::NoFamily);
            None
        }
        Err(error) => {
            set_state(shared, family, ServingState::Failed(failure(family, port, error)));
            None
        }
    }
}

/// One word, which users look for, and the reason.
fn failure(family: Family, port: u16, error: sys::Error) -> String {
    let word = match error {
        taken if taken.in_use() => "PortTaken",
        denied if denied.not_permitted() => "NotPermitted",
        _ => "OpenFailed",
    };
    format!("{word}: {} UDP port {port}: {error}", family.as_str())
}

/// Logs a change, once.
fn set_state(shared: &Shared, family: Family, state: ServingState) {
    let place = &mut shared.states()[family as usize];
    if *place == state {
        return;
    }
    match &state {
        ServingState::Open => info!(family = family.as_str(), "Serving time"),
        ServingState::Closed => info!(family = family.as_str(), "Server's port closed"),
        ServingState::NoFamily => info!(family = family.as_str(), "Address family not available, not served"),
        ServingState::Failed(why) => {
            warn!(family = family.as_str(), %why, "Cannot serve time, will try again")
        }
    }
    *place = state;
}

fn stopped(stop: &AtomicBool) -> bool {
    stop.load(Ordering::Acquire)
}

/// A worker's copy of the orders.
struct View {
    orders: Orders,
    generation: u64,
}

impl View {
    fn new(shared: &Shared) -> Self {
        let generation = shared.generation.load(Ordering::Acquire);
        Self { orders: shared.orders().clone(), generation }
    }

    fn refresh(&mut self, shared: &Shared) {
        // The number first: orders that change in between are then taken again, never missed.
        let generation = shared.generation.load(Ordering::Acquire);
        if generation != self.generation {
            self.orders = shared.orders().clone();
            self.generation = generation;
        }
    }
}
