//! CUDA graphs: work captured once, launched many times.

use crate::context::Stream;
use crate::driver::{call, sys};
use crate::error::Result;

/// An instantiated graph.
#[derive(Debug)]
pub struct Graph {
    graph: sys::CUgraph,
    exec: sys::CUgraphExec,
}

impl Graph {
    /// Captures what `work` queues on `stream`. Nothing runs until [`Graph::launch`].
    ///
    /// # Errors
    /// What `work` returns, or the driver's (an operation that cannot be captured).
    pub fn capture(stream: &Stream, work: impl FnOnce() -> Result<()>) -> Result<Graph> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        let raw: sys::CUstream = stream.raw().cast();
        call!(cuStreamBeginCapture_v2(raw, mode), "graphs")?;
        let queued = work();
        // Capture ends in any case, so that an error leaves the stream usable.
        let mut graph = std::ptr::null_mut();
        let ended = call!(cuStreamEndCapture(raw, &mut graph), "graphs");
        queued?;
        ended?;
        let mut g = Graph { graph, exec: std::ptr::null_mut() };
        call!(cuGraphInstantiateWithFlags(&mut g.exec, g.graph, 0), "graphs")?;
        Ok(g)
    }

    /// Queues the whole graph on a stream.
    pub fn launch(&self, stream: &Stream) -> Result<()> {
        call!(cuGraphLaunch(self.exec, stream.raw().cast()), "graphs")
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if !self.exec.is_null() {
            let _ = call!(cuGraphExecDestroy(self.exec), "graphs");
        }
        let _ = call!(cuGraphDestroy(self.graph), "graphs");
    }
}
