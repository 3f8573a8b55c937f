//! The control socket's file: taken by one daemon at a time, made with its folder, removed at the end.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The daemon's user and the socket's group may connect; who may change things is decided by their credentials.
const MODE: u32 = 0o660;

/// Why the socket cannot be had. The message is one for operators.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "the control socket {path} is in use: another sluiced is running; stop it, or set another runtime.socket"
    )]
    InUse { path: PathBuf },
    #[error("{path} is there and is not a socket; remove it, or set another runtime.socket")]
    NotASocket { path: PathBuf },
    #[error(
        "the control socket {path} cannot be given to group {group}: {source}; run as root or as a member of that group, or \
         set another runtime.socket_group"
    )]
    Group { path: PathBuf, group: u32, source: io::Error },
    #[error(
        "the control socket {path} cannot be made: {source}; run as root, or set a runtime.socket in a folder that you may write to"
    )]
    Failed { path: PathBuf, source: io::Error },
}

/// The socket of this daemon. Dropping it removes the file.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    lock_path: PathBuf,
    listener: UnixListener,
    /// Held as long as the socket is.
    _lock: File,
}

impl ControlSocket {
    /// Takes the socket at `path`: refuses if a daemon listens there, replaces what one has left behind. Members of `group`
    /// may connect; `None`: of the daemon's.
    pub fn take(path: &Path, group: Option<u32>) -> Result<Self, Error> {
        let failed = |source| Error::Failed { path: path.to_owned(), source };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        // Two daemons that start at once must not both find a stale socket.
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock_path = PathBuf::from(lock_path);
        let lock = lock(&lock_path).map_err(failed)?.ok_or_else(|| Error::InUse { path: path.to_owned() })?;
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(Error::NotASocket { path: path.to_owned() });
            }
            Ok(_) if UnixStream::connect(path).is_ok() => return Err(Error::InUse { path: path.to_owned() }),
            Ok(_) => fs::remove_file(path).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let socket = Self { path: path.to_owned(), lock_path, listener, _lock: lock };
        // Until the mode is set, nobody else may connect.
        if group.is_some() {
            let refused =
                |source| Error::Group { path: path.to_owned(), group: group.unwrap_or_default(), source };
            std::os::unix::fs::chown(path, None, group).map_err(refused)?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(failed)?;
        socket.listener.set_nonblocking(true).map_err(failed)?;
        Ok(socket)
    }

    /// Another handle of the listening socket.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

/// Locks the file at `path`, made if need be; `None` if somebody else has it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    loop {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // A daemon that ended in between has removed the file, and another one may have locked a new one.
        if fs::metadata(path).is_ok_and(|there| file.metadata().is_ok_and(|held| held.ino() == there.ino())) {
            return Ok(Some(file));
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(&self.lock_path);
    }
}
