//! The server: prompts over HTTP, kept on disk, made into videos by the graph.
//!
//! Requests only read and write the store; the dispatcher alone talks to the graph. So a prompt that was accepted
//! is on the disk, whatever the graph does, and an answer never waits for it.

mod api;
mod auth;
mod clock;
mod dispatcher;
mod folder;
mod ids;
mod limits;
mod live;
mod meter;
mod middleware;
mod page;
mod store;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::middleware::from_fn;
use actix_web::web::Data;
use actix_web::{App, HttpServer};
use sora_models::bundle::GenerationConfig;
use sora_telemetry::{MetricsPage, PromptOutcome};

use crate::PipelineHandle;
use crate::request_settings::default_request;
use crate::sidecar::{Compute, ModelIdentity};

use self::api::{ApiState, StreamPlaces};
use self::dispatcher::Dispatcher;
use self::folder::DataFolder;
use self::live::LiveVideos;
use self::store::Store;

pub use auth::{ApiKeys, KeyFileError};
pub use dispatcher::{DispatchEnd, Retention};
pub use folder::FolderError;
pub use limits::RequestLimits;
pub use store::{QueueLimits, StoreError};

/// Threads that answer requests. Our choice: answers take little, and the other cores are for computing.
const HTTP_THREADS: usize = 2;

/// Connections at a time for each of these threads; more wait at the door.
const CONNECTIONS: usize = 512;

/// How long a client may take to send a request's head, and an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// How long answers that are under way may take when the server stops.
///
/// # Units
/// Seconds.
const SHUTDOWN_SECONDS: u64 = 5;

/// How a server is set up.
pub struct ServerSettings {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// Where the database and the videos are.
    pub data: PathBuf,
    /// Who may use it.
    pub keys: ApiKeys,
    /// What may be asked for.
    pub limits: RequestLimits,
    /// How long videos are kept.
    pub retention: Retention,
    /// Further names that the model answers to.
    pub model_names: Vec<String>,
    /// Whether prompts go to the log.
    pub log_prompts: bool,
    /// Whether to give up unfinished videos that were accepted for another model.
    pub abandon_foreign: bool,
}

/// What videos are made with.
pub struct Engine {
    /// The graph.
    pub pipeline: PipelineHandle,
    /// How many videos to hand to it at a time.
    pub in_graph: usize,
    /// The weights.
    pub model: ModelIdentity,
    /// Device and dtype.
    pub compute: Compute,
    /// The model's own defaults.
    pub defaults: GenerationConfig,
    /// The metrics of this process.
    pub metrics: MetricsPage,
}

/// Why a server does not start, or does not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address cannot be listened at.
    #[error("cannot listen at {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// Anybody could use it.
    #[error(
        "{address} can be reached from elsewhere, so keys are needed: name a file of them with --api-key-file, or listen at \
         127.0.0.1"
    )]
    KeysNeeded {
        /// The address.
        address: SocketAddr,
    },
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Other weights would make other videos than were asked for.
    #[error(
        "{videos} unfinished videos in {} were accepted for another model, device or dtype than `{model}`: start the server \
         with that one, or give them up with --abandon-unfinished",
        path.display()
    )]
    ForeignVideos {
        /// The folder.
        path: PathBuf,
        /// How many.
        videos: u64,
        /// The model that was to be served.
        model: String,
    },
    /// The HTTP server failed.
    #[error("the HTTP server failed: {0}")]
    Http(#[from] std::io::Error),
}

/// A server that is set up and listens, and does not answer yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    state: Data<ApiState>,
    dispatcher: Dispatcher,
    live: Arc<LiveVideos>,
}

impl ServerSettings {
    /// Finds out what can be found out without a model.
    ///
    /// # Errors
    /// [`ServerError::KeysNeeded`].
    pub fn check(&self) -> Result<(), ServerError> {
        if self.keys.is_open() && !self.address.ip().is_loopback() {
            return Err(ServerError::KeysNeeded { address: self.address });
        }
        Ok(())
    }
}

impl Server {
    /// Opens the folder and listens. Call it within an actix system.
    ///
    /// # Errors
    /// The folder or the address cannot be used, or unfinished videos are of another model.
    pub async fn open(settings: ServerSettings, engine: Engine) -> Result<Self, ServerError> {
        settings.check()?;
        let Engine { pipeline, in_graph, model, compute, defaults, metrics } = engine;
        let folder = Arc::new(DataFolder::open(&settings.data)?);
        let store = Store::open(&folder.database())?;
        let fingerprint = format!("{} {} {}", model.fingerprint, compute.device, compute.dtype);
        if settings.abandon_foreign {
            for created_at in store.abandon_foreign(&fingerprint, clock::now()).await? {
                meter::count_video(PromptOutcome::Failed, created_at);
            }
        }
        let videos = store.foreign(&fingerprint).await?;
        if videos > 0 {
            let model = format!("{}, {}, {}", model.name, compute.device, compute.dtype);
            return Err(ServerError::ForeignVideos { path: settings.data, videos, model });
        }
        folder.tidy(&store).await?;
        // Prepares what the check of prompts needs, so that the first client does not wait for it.
        let _ = pipeline.check(&default_request("a red circle", 0, &defaults)).await;
        let listen = |source| ServerError::Listen { address: settings.address, source };
        let listener = TcpListener::bind(settings.address).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let live = Arc::new(LiveVideos::new());
        let mut model_names = vec![model.name.clone()];
        model_names.extend(settings.model_names);
        let state = Data::new(ApiState {
            store: store.clone(),
            live: live.clone(),
            folder: folder.clone(),
            pipeline: pipeline.clone(),
            defaults,
            model_names,
            fingerprint,
            started_at: clock::now(),
            keys: settings.keys,
            event_streams: StreamPlaces::new(settings.limits.event_streams),
            limits: settings.limits,
            retention: settings.retention,
            metrics,
            log_prompts: settings.log_prompts,
        });
        let retention = settings.retention;
        let dispatcher = Dispatcher {
            store,
            live: live.clone(),
            folder,
            pipeline,
            model,
            compute,
            in_graph,
            retention,
        };
        Ok(Self { listener, address, state, dispatcher, live })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers and works until `stop` completes. What is under way then is saved, for the next server to go on with.
    ///
    /// # Errors
    /// HTTP or the database cannot be set up.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<DispatchEnd, ServerError> {
        let Self { listener, state, dispatcher, live, .. } = self;
        let app = move || {
            App::new()
                .app_data(state.clone())
                .wrap(from_fn(middleware::around))
                .configure(api::configure)
        };
        let server = HttpServer::new(app)
            .workers(HTTP_THREADS)
            .max_connections(CONNECTIONS)
            .client_request_timeout(HEAD_TIMEOUT)
            .keep_alive(KEEP_ALIVE)
            .shutdown_timeout(SHUTDOWN_SECONDS)
            .disable_signals()
            .listen(listener)?
            .run();
        let http = server.handle();
        let mut serving = actix_web::rt::spawn(server);
        let (store, watched) = (dispatcher.store.clone(), live.clone());
        let meter = actix_web::rt::spawn(async move { meter::count_queue(&store, &watched).await });
        let working = dispatcher.run();
        tokio::pin!(working);
        let end = tokio::select! {
            end = &mut working => end,
            () = stop => {
                live.stop();
                // Requests are answered while the graph saves its work, which may take as long as a step.
                working.await
            }
            served = &mut serving => {
                live.stop();
                working.await?;
                // It ends by itself only when it fails.
                let cause = served.map_err(std::io::Error::other).and_then(|served| served);
                return Err(cause.err().unwrap_or_else(|| std::io::Error::other("it ended")).into());
            }
        };
        live.stop();
        http.stop(true).await;
        meter.abort();
        Ok(end?)
    }
}
