//! The command line.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Measure, explain and predict what workloads that share one GPU do to each other.
#[derive(Debug, Parser)]
#[command(name = "cotenant", version, about, long_about = None, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run an experiment: prints its table, writes a run folder and a report
    Run(RunArgs),
    /// Say what this machine has and lacks for each sharing mode and each measurement
    Doctor(JsonArg),
    /// Measure this GPU's device card
    Probe(ProbeArgs),
    /// Make tables, figures and report again from stored runs
    Report(ReportArgs),
    /// Compare two runs, or a run with the reference values it carries, trial by trial
    Compare(CompareArgs),
    /// List the built-in experiments
    Experiments(JsonArg),
    /// List the built-in kernels with their parameters and demand
    Kernels(JsonArg),
    /// List the built-in models
    Models(JsonArg),
    /// List the device cards for the simulated GPU
    Cards(JsonArg),
    /// Print the Python module that makes a program a tenant measured by iteration
    Helper,
    /// Print a shell completion script
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Write man pages into a folder
    Man {
        /// Folder, made if absent
        folder: PathBuf,
    },
    /// A tenant process of a run
    #[command(hide = true)]
    Worker {
        /// Descriptor of the meeting page
        meeting: i32,
    },
    /// Launch one kernel once, for ncu
    #[command(hide = true)]
    KernelOnce(KernelOnceArgs),
}

/// `--json` alone.
#[derive(Debug, Args)]
pub struct JsonArg {
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Experiment file, or the name of a built-in one (`cotenant experiments`)
    #[arg(required_unless_present = "resume")]
    pub experiment: Option<String>,
    /// `auto`, `cuda:N`, `sim:CARD`, or `host` for programs without a GPU
    #[arg(long, default_value = "auto", env = "COTENANT_DEVICE")]
    pub device: String,
    /// Override a value of the experiment: `measure.budget="5s"`, `tenants.copy.threads=512`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Run only trials with this id (`*` matches any part); may be given several times
    #[arg(long, value_name = "TRIAL")]
    pub only: Vec<String>,
    /// Keep the kernel time lines of models and programs in the run folder, under `traces/`
    #[arg(long)]
    pub keep_traces: bool,
    /// Continue this run folder
    #[arg(long, value_name = "RUN", conflicts_with_all = ["experiment", "set", "only", "out"])]
    pub resume: Option<PathBuf>,
    /// Folder for run folders
    #[arg(long, default_value = "runs")]
    pub out: PathBuf,
    /// Join the MPS daemon that already serves this environment instead of starting one
    #[arg(long)]
    pub join_mps: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// No progress bar and no live lines
    #[arg(long, short)]
    pub quiet: bool,
}

/// Arguments of `probe`.
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// `auto`, `cuda:N` or `sim:CARD`
    #[arg(long, default_value = "auto", env = "COTENANT_DEVICE")]
    pub device: String,
    /// Card to write; the report page goes beside it with `.html`
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Print the card as JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Run folders
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// Print the summaries as JSON instead of tables
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Run folder
    pub a: PathBuf,
    /// Run folder to compare with; absent with `--reference`
    #[arg(required_unless_present = "reference")]
    pub b: Option<PathBuf>,
    /// Compare with the reference values that the experiment carries
    #[arg(long, conflicts_with = "b")]
    pub reference: bool,
    /// Only references whose source contains this
    #[arg(long, requires = "reference")]
    pub source: Option<String>,
    /// Exit with code 8 if some relative difference is above this many percent
    #[arg(long, value_name = "PERCENT")]
    pub fail_above: Option<f64>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `kernel-once`.
#[derive(Debug, Args)]
pub struct KernelOnceArgs {
    /// Kernel
    pub kernel: String,
    /// Blocks in the grid
    #[arg(long, default_value_t = 1)]
    pub blocks: u32,
    /// Threads per block
    #[arg(long, default_value_t = 128)]
    pub threads: u32,
    /// Turns of the loop
    #[arg(long, default_value_t = 1)]
    pub iterations: u64,
    /// Parameter, `name=value`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// CUDA index
    #[arg(long, default_value_t = 0)]
    pub device: u32,
}
