//! The load of a server tenant of an experiment, as the options of a load.

use super::options::{LoadOptions, VocabularyChoice, parse_slo};
use cotenant_servers::Preset;
use cotenant_spec::plan::{ServerLoad, Sharing, TenantPlan, TrialPlan};
use std::collections::BTreeSet;

/// Time limit of a request where none is given, ns.
const TIMEOUT_NS: u64 = 120_000_000_000;

/// A load as options. Files that it names are read.
///
/// # Errors
/// A file cannot be read, or a value is none; in words that name the key.
pub fn load_options(l: &ServerLoad, seed: u64) -> Result<LoadOptions, String> {
    let text = |key: &str, path: &Option<String>| {
        let read = |p: &String| std::fs::read_to_string(p).map_err(|e| format!("read `load.{key}` {p}: {e}"));
        path.as_ref().map(read).transpose()
    };
    let vocabulary = match (text("tokenizer", &l.tokenizer)?, l.vocabulary.as_deref()) {
        (Some(_), Some(_)) => {
            return Err("`load` has both `tokenizer` and `vocabulary`: one of them makes the words".into());
        }
        (Some(json), None) => VocabularyChoice::Tokenizer(json),
        (None, None) => VocabularyChoice::Auto,
        (None, Some("words")) => VocabularyChoice::Words,
        (None, Some("plain")) => VocabularyChoice::Plain,
        (None, Some(other)) => {
            return Err(format!("`load.vocabulary` is `{other}`: there are words and plain"));
        }
    };
    Ok(LoadOptions {
        completions: l.completions,
        whole_answers: l.stream == Some(false),
        may_end: l.may_end,
        concurrency: l.concurrency,
        think_ns: l.think.unwrap_or(0),
        rate: l.rate,
        arrivals: l.arrivals.clone(),
        profile: l.profile.clone(),
        trace: text("trace", &l.trace)?,
        trace_part: l.trace_part.clone(),
        exact_rate: l.exact_rate,
        turns: l.turns.clone(),
        turn_think: l.turn_think.clone(),
        models: l.models.clone(),
        requests: match (l.requests, l.duration) {
            (None, None) => Some(100),
            (n, _) => n.map(u64::from),
        },
        duration_ns: l.duration,
        prompt_tokens: l.prompt_tokens.clone(),
        output_tokens: l.output_tokens.clone(),
        mix: l.mix.clone(),
        prefix: l.prefix.clone(),
        prompts: text("prompts", &l.prompts)?,
        vocabulary,
        body: l.body.clone(),
        seed,
        texts_seed: None,
        in_flight: l.in_flight,
        timeout_ns: l.timeout.unwrap_or(TIMEOUT_NS),
        chunks: l.chunks,
    })
}

/// The shares of the card's memory of the servers that a trial starts. Our own token server needs none.
pub fn memory_shares(trial: &TrialPlan) -> Vec<(&str, Option<f64>)> {
    let share = |t: &'_ TenantPlan| {
        let setup = &t.server()?.setup;
        (setup.starts() && setup.preset != Preset::TokenServer.name()).then_some(setup.memory_share)
    };
    trial.tenants.iter().filter_map(|t| Some((t.name.as_str(), share(t)?))).collect()
}

/// Memory in which servers of a trial share: the card's, or under `mig` that of an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryPool<'a> {
    /// UUID of the instance; `None`: the card.
    pub instance: Option<&'a str>,
    /// Servers and their shares of it.
    pub shares: Vec<(&'a str, Option<f64>)>,
}

/// The pools of memory that the servers of a trial share in, in the order of its tenants. An instance is isolated from the others,
/// and a server sees no more than its own: its share is of that one.
pub fn memory_pools(trial: &TrialPlan) -> Vec<MemoryPool<'_>> {
    let Sharing::Mig { instances } = &trial.sharing else {
        return vec![MemoryPool { instance: None, shares: memory_shares(trial) }];
    };
    let mut out: Vec<MemoryPool<'_>> = Vec::new();
    for share in memory_shares(trial) {
        let at = trial.tenants.iter().position(|t| t.name == share.0);
        let instance = at.and_then(|i| instances.get(i)).map(String::as_str);
        match out.iter_mut().find(|p| p.instance == instance) {
            Some(pool) => pool.shares.push(share),
            None => out.push(MemoryPool { instance, shares: vec![share] }),
        }
    }
    out
}

impl MemoryPool<'_> {
    /// Whether the shares fit; `total` and `in_use` in bytes, `total` 0 where it is not known.
    ///
    /// # Errors
    /// As [`cotenant_servers::check_shares`], in words that name the instance.
    pub fn check(&self, total: u64, in_use: u64) -> Result<(), String> {
        cotenant_servers::check_shares(&self.shares, total, in_use).map_err(|e| match self.instance {
            Some(uuid) => format!("{e} (here the card is the MIG instance {uuid})"),
            None => e.to_string(),
        })
    }
}

/// Checks the loads of all server tenants of these trials before anything is started: files are read in full.
///
/// # Errors
/// The first that is wrong, with its trial, tenant and key.
pub fn check<'a>(trials: impl IntoIterator<Item = &'a TrialPlan>) -> Result<(), String> {
    // Of a tokenizer it takes a second to know whether it can be used, and many trials may use it.
    let mut tokenizers = BTreeSet::new();
    for trial in trials {
        for t in &trial.tenants {
            let Some(server) = t.server() else { continue };
            let of = |why: String| format!("trial {}, tenant {}: {why}", trial.id, t.name);
            if let Some(other) = &server.setup.of {
                let owner = trial.tenants.iter().find(|o| o.name == *other).and_then(|o| o.server());
                if owner.is_none_or(|o| !o.setup.starts()) {
                    return Err(of(format!(
                        "`server.of` is `{other}`, which is no tenant of the trial with a server of its own"
                    )));
                }
            }
            if server.setup.url.is_some() && limits(&trial.sharing) {
                return Err(format!(
                    "trial {}: tenant `{}` is a server that someone else runs (`url`); its share of the GPU is set where it is \
                     started, and not by `sharing` of mode `{}`: leave out the shares (plain `mps` or `processes`), or have the \
                     server started here",
                    trial.id,
                    t.name,
                    trial.sharing.name()
                ));
            }
            let load = &server.load;
            let mut options = load_options(load, server.seed).map_err(of)?;
            if load.tokenizer.as_ref().is_some_and(|path| !tokenizers.insert(path)) {
                options.vocabulary = VocabularyChoice::Words;
            }
            options.check().map_err(|e| of(in_keys(load, &e.to_string())))?;
            if let Some(slo) = &load.slo {
                parse_slo(slo).map_err(|e| of(in_keys(load, &e.to_string())))?;
            }
        }
    }
    Ok(())
}

/// Whether a sharing mode gives each tenant a part of the GPU, or a rank, of its own: by what its process is started with.
fn limits(sharing: &Sharing) -> bool {
    match sharing {
        Sharing::Mps { percentage, priority, pinned_memory } => {
            !(percentage.is_empty() && priority.is_empty() && pinned_memory.is_empty())
        }
        Sharing::Green { .. } | Sharing::Mig { .. } => true,
        Sharing::Streams { priority } => !priority.is_empty(),
        Sharing::Solo | Sharing::Sequential | Sharing::Processes => false,
    }
}

/// A message about options of a command line as one about the keys of a `load`.
fn in_keys(load: &ServerLoad, message: &str) -> String {
    let mut out = message.to_owned();
    let files = [("prompts", &load.prompts), ("trace", &load.trace), ("tokenizer", &load.tokenizer)];
    for (key, path) in files.into_iter().filter_map(|(key, path)| Some((key, path.as_ref()?))) {
        out = out.replace(&format!("--{key} `the file`"), &format!("--{key} `{path}`"));
    }
    let mut words = out.split("--");
    let mut out = words.next().unwrap_or_default().to_owned();
    for word in words {
        let end = word.find(|c: char| !(c.is_ascii_lowercase() || c == '-')).unwrap_or(word.len());
        let (name, rest) = word.split_at(end);
        match name {
            "" => out.push_str(&format!("--{rest}")),
            name => out.push_str(&format!("load.{}{rest}", name.replace('-', "_"))),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use cotenant_spec::plan::Plan;

    #[test]
    fn presets_of_experiments_are_those_that_can_be_started() {
        for name in cotenant_spec::server::PRESETS {
            assert!(name.parse::<Preset>().is_ok(), "{name}");
        }
    }

    /// An experiment of two servers that share as said.
    fn plan(server: &str, sharing: &str) -> Plan {
        let text = format!(
            "format = 1\nname = \"p\"\ntitle = \"P\"\nsummary = \"x\"\n[tenants.llm]\nserver = {server}\n\
             load = {{ concurrency = 1 }}\n[[trial]]\nname = \"all\"\nsharing = {sharing}\nprotocol = \"steady\"\n\
             tenants = [{{ use = \"llm\", copies = 2 }}]\n"
        );
        let card = cotenant_model::builtin("h100-sxm5-80gb").expect("a built-in card");
        let backend = crate::simulated::SimBackend::new(card, std::sync::Arc::default());
        let spec = cotenant_spec::Spec::parse(&text, "p.toml").expect("a spec");
        spec.resolve(crate::backend::Backend::sizes(&backend), &[]).expect("a plan")
    }

    #[test]
    fn shares_of_memory_are_of_each_servers_own_instance() {
        const ALL: u64 = 40 << 30;
        let mig = |server: &str, instances: &str| {
            plan(server, &format!("{{ mode = \"mig\", instances = [{instances}] }}"))
        };
        let check =
            |plan: &Plan, total| memory_pools(&plan.trials[0]).iter().try_for_each(|p| p.check(total, 0));
        let most = "{ preset = \"vllm\", model = \"m\", memory_share = 0.9 }";
        let apart = mig(most, "\"MIG-1\", \"MIG-2\"");
        assert_eq!(check(&apart, ALL), Ok(()));
        let pools = memory_pools(&apart.trials[0]);
        assert_eq!(pools[1], MemoryPool { instance: Some("MIG-2"), shares: vec![("llm-2", Some(0.9))] });
        let e = pools[1].check(ALL, ALL / 2).unwrap_err();
        assert!(e.contains("the card has 40.0 GiB") && e.contains("the MIG instance MIG-2"), "{e}");
        // Each may take the whole of its own, and where no size is told too.
        let whole = mig("{ preset = \"vllm\", model = \"m\" }", "\"MIG-1\", \"MIG-2\"");
        assert_eq!((check(&whole, ALL), check(&whole, 0)), (Ok(()), Ok(())));
        for total in [ALL, 0] {
            let e = check(&mig(most, "\"MIG-1\", \"MIG-1\""), total).unwrap_err();
            assert!(e.contains("1.80") && e.contains("MIG-1"), "two on one instance: {e}");
        }
        let card = plan(most, "\"processes\"");
        assert!(check(&card, ALL).unwrap_err().contains("1.80"), "without MIG all share the card");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let load = |l: ServerLoad| load_options(&l, 1).and_then(|o| o.check().map_err(|e| e.to_string()));
        let base = ServerLoad { concurrency: Some(4), ..ServerLoad::default() };
        assert_eq!(load(base.clone()), Ok(()));
        let e = load(ServerLoad { vocabulary: Some("latin".into()), ..base.clone() }).unwrap_err();
        assert!(e.contains("`latin`"), "{e}");
        let e = load(ServerLoad { trace: Some("/nowhere.csv".into()), ..ServerLoad::default() }).unwrap_err();
        assert!(e.contains("`load.trace` /nowhere.csv"), "{e}");
        let e = load(ServerLoad { prompt_tokens: Some("many".into()), ..base.clone() }).unwrap_err();
        assert!(e.contains("many"), "{e}");
        let open = ServerLoad { rate: Some(3.0), arrivals: Some("tidal".into()), ..ServerLoad::default() };
        assert!(load(open).unwrap_err().contains("tidal"));
        let part = ServerLoad { rate: Some(3.0), trace_part: Some("3/2".into()), ..ServerLoad::default() };
        assert!(load(part).unwrap_err().contains("--trace-part without --trace"));
        let exact = ServerLoad { rate: Some(3.0), exact_rate: true, ..ServerLoad::default() };
        assert_eq!(load(exact.clone()), Ok(()));
        let e = load(ServerLoad { duration: Some(1_000_000_000), ..exact.clone() }).unwrap_err();
        assert!(e.contains("give --requests"), "{e}");
        let e = load(ServerLoad { profile: Some("step(1s,2)".into()), ..exact.clone() }).unwrap_err();
        assert!(e.contains("a profile changes the rate"), "{e}");
        let e = load(ServerLoad { requests: Some(1), ..exact }).unwrap_err();
        assert!(e.contains("have no rate"), "{e}");
        let both =
            ServerLoad { mix: Some("short=1".into()), prompt_tokens: Some("64".into()), ..base.clone() };
        let e = load(both.clone()).unwrap_err();
        assert_eq!(
            in_keys(&both, &e),
            "combine load.mix with load.prompt_tokens, load.output_tokens or load.prefix: classes have their own"
        );
    }

    #[test]
    fn a_share_of_the_gpu_is_refused_to_a_server_that_someone_else_runs() {
        let told = |server: &str, sharing: &str| check(&plan(server, sharing).trials);
        let theirs = "{ url = \"http://127.0.0.1:1\" }";
        for shares in [
            "{ mode = \"mps\", percentage = [50, 50] }",
            "{ mode = \"mps\", priority = [0, 1] }",
            "{ mode = \"mps\", pinned_memory = \"8GiB\" }",
            "{ mode = \"mig\", instances = [\"MIG-1\", \"MIG-2\"] }",
        ] {
            let e = told(theirs, shares).unwrap_err();
            assert!(e.contains("tenant `llm-1` is a server that someone else runs (`url`)"), "{e}");
            assert_eq!(told("{ preset = \"token-server\" }", shares), Ok(()), "{shares}");
        }
        assert_eq!(told(theirs, "\"mps\""), Ok(()));
        assert_eq!(told(theirs, "\"processes\""), Ok(()));
    }

    #[test]
    fn a_message_is_of_the_keys_of_a_load() {
        let load = ServerLoad { trace: Some("a/b.csv".into()), ..ServerLoad::default() };
        assert_eq!(in_keys(&load, "use --trace `the file`: line 3"), "use load.trace `a/b.csv`: line 3");
        assert_eq!(in_keys(&load, "give --output-tokens; --x"), "give load.output_tokens; load.x");
        assert_eq!(in_keys(&load, "nothing -- of that"), "nothing -- of that");
    }
}
