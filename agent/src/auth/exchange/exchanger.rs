//! The thread in which all key exchanges run concurrently. It is started for the first exchange, and again if it has
//! ended. A request in; its result out, unless the exchange is not wanted any more.
use std::{io, sync::Arc, thread};

use tokio::{
    runtime,
    sync::{
        mpsc::{self, UnboundedReceiver, UnboundedSender},
        oneshot,
    },
};

use super::{
    client::{Error, exchange},
    request::{ExchangeRequest, ExchangeResult, Failure},
};
use crate::{panics, resolve::Resolver};

/// Runs key exchanges beside its caller.
pub(crate) struct Exchanger {
    resolver: Resolver,
    reply: Reply,
    thread: Option<UnboundedSender<QueuedRequest>>,
}

type Reply = Arc<dyn Fn(ExchangeResult) + Send + Sync>;

/// The request, and a channel that closes when the exchange is not wanted any more.
type QueuedRequest = (ExchangeRequest, oneshot::Receiver<()>);

/// A requested exchange. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct PendingExchange(oneshot::Sender<()>);

impl PendingExchange {
    /// Returns true if it has ended, with a result or without.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_closed()
    }
}

/// Stack size, octets. rustls keeps its buffers on the heap; the verification of a certificate needs the most.
const STACK: usize = 512 * 1024;

impl Exchanger {
    /// Names are resolved by `resolver`. Each result is passed to `reply`, in any thread.
    pub(crate) fn new(resolver: Resolver, reply: impl Fn(ExchangeResult) + Send + Sync + 'static) -> Self {
        Self { resolver, reply: Arc::new(reply), thread: None }
    }

    /// Requests a key exchange.
    pub(crate) fn request(&mut self, request: ExchangeRequest) -> PendingExchange {
        let (pending, unwanted) = oneshot::channel();
        let thread =
            match self.thread.take().filter(|thread| !thread.is_closed()).map_or_else(|| self.start(), Ok) {
                Ok(thread) => thread,
                Err(error) => {
                    let ExchangeRequest { epoch, source, .. } = request;
                    let outcome = Err(Failure::Refused(format!("Key exchange: no thread: {error}.")));
                    (self.reply)(ExchangeResult { epoch, source, outcome });
                    return PendingExchange(pending);
                }
            };
        // If the thread ends at this moment, the exchange ends without an answer, and is requested again later.
        let _ = thread.send((request, unwanted));
        self.thread = Some(thread);
        PendingExchange(pending)
    }

    fn start(&self) -> io::Result<UnboundedSender<QueuedRequest>> {
        let (sender, requests) = mpsc::unbounded_channel();
        let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (resolver, reply) = (self.resolver.clone(), Arc::clone(&self.reply));
        let thread = thread::Builder::new().name("key exchange".to_owned()).stack_size(STACK);
        thread.spawn(move || runtime.block_on(work(requests, resolver, reply)))?;
        Ok(sender)
    }
}

/// Runs exchanges until every sender of requests is dropped.
async fn work(mut requests: UnboundedReceiver<QueuedRequest>, resolver: Resolver, reply: Reply) {
    while let Some((request, mut unwanted)) = requests.recv().await {
        let (resolver, reply) = (resolver.clone(), Arc::clone(&reply));
        tokio::spawn(async move {
            let (epoch, source) = (request.epoch, request.source);
            // In a task of its own, so that a panic is reported like any other failure.
            let mut task = tokio::spawn(async move { exchange(&request, &resolver).await });
            tokio::select! {
                ended = &mut task => {
                    let outcome = ended.unwrap_or_else(|error| {
                        let message = error.try_into_panic().map_or_else(|e| e.to_string(), |p| panics::panic_message(&*p));
                        Err(Failure::Refused(format!("Key exchange: {}.", Error::Fault(message))))
                    });
                    reply(ExchangeResult { epoch, source, outcome });
                }
                _ = &mut unwanted => task.abort(),
            }
        });
    }
}
