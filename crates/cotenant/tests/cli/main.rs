//! The program as its user meets it: every verb, bad input, faults and interruption, on the simulated GPU.

mod bad_input;
mod faults;
mod fixtures;
mod interrupted_programs;
mod interrupted_servers;
mod load_sources;
mod loads;
mod programs;
mod real_servers;
mod resume;
mod room;
mod secrets;
mod servers;
mod tls;
mod token_server;
mod verbs;
