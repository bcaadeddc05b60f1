//! Passes a connection through, byte by byte.

use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::table::Backend;

pub(super) async fn serve(mut client: TcpStream, backend: Arc<Backend>, mut stop: watch::Receiver<bool>) {
    let pass = async {
        match backend.connect().await {
            Ok((mut pod, in_flight)) => {
                // Either end closing badly is the other end's news as well; there is nobody else to tell.
                let _ = copy_bidirectional(&mut client, &mut pod).await;
                drop(in_flight);
            }
            Err(reason) => tracing::warn!(reason, "connection closed"),
        }
    };
    tokio::select! {
        () = pass => {}
        () = crate::node::told_to_stop(&mut stop) => {}
    }
}
