//! placeholder until the simulator is there
use crate::backend::*;
use cotenant_spec::plan::*;
use cotenant_store::format::*;
/// x
pub struct SimBackend(DeviceRecord, DeviceSizes);
impl SimBackend { /// x
pub fn new(_c: cotenant_model::DeviceCard, _i: std::sync::Arc<std::sync::atomic::AtomicBool>) -> Self { unimplemented!() } }
impl Backend for SimBackend {
 fn device(&self)->&DeviceRecord{&self.0} fn sizes(&self)->&DeviceSizes{&self.1} fn simulated(&self)->bool{true}
 fn open<'s>(&'s mut self, _t:&TrialPlan)->Result<Box<dyn Session+'s>,TrialError>{unimplemented!()}
}
