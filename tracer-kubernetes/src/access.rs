//! Where the API server is, and who asks it.

use std::{path::PathBuf, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a connection may be silent: longer than a watch without news.
const SILENT: Duration = Duration::from_secs(300);

/// Where the API server is known from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// What is there: `KUBECONFIG`, `~/.kube/config`, or the service account of the pod that this runs in.
    Found,
    /// That file, as `kubectl` reads it, with its current context.
    Kubeconfig(PathBuf),
}

/// Why no API server can be asked.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The file is not there, or not understood.
    #[error("{}: {}", .0.display(), crate::watch::last(.1))]
    Kubeconfig(PathBuf, kube::config::KubeconfigError),
    /// Nothing says where it is.
    #[error(
        "nothing says where the API server is: no kubeconfig, and not in a pod with a service account"
    )]
    Nowhere(kube::config::InferConfigError),
    /// What it says cannot be used.
    #[error("{}", crate::watch::last(.0))]
    Client(kube::Error),
}

impl Access {
    /// Whether the file can be read, where one was named.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), AccessError> {
        match self {
            Self::Found => Ok(()),
            Self::Kubeconfig(path) => Kubeconfig::read_from(path)
                .map(drop)
                .map_err(|error| AccessError::Kubeconfig(path.clone(), error)),
        }
    }

    /// A client. Reads files; connects to nothing.
    pub(crate) async fn client(&self) -> Result<Client, AccessError> {
        let config = match self {
            Self::Found => Config::infer().await.map_err(AccessError::Nowhere)?,
            Self::Kubeconfig(path) => {
                let wrong = |error| AccessError::Kubeconfig(path.clone(), error);
                let file = Kubeconfig::read_from(path).map_err(wrong)?;
                let options = KubeConfigOptions::default();
                let config = Config::from_custom_kubeconfig(file, &options);
                config.await.map_err(wrong)?
            }
        };
        client_of(config)
    }
}

pub(crate) fn client_of(mut config: Config) -> Result<Client, AccessError> {
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENT);
    // What fails is tried again here, and said meanwhile.
    config.default_retry = false;
    Client::try_from(config).map_err(AccessError::Client)
}
