//! Requests of several classes.

use crate::seed::generator;
use crate::{Ask, Form, Length, Prefix, PromptError, Synthetic, Vocabulary};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Requests of one kind within a mix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Class {
    /// Name, different from those of the others.
    pub name: String,
    /// Weight, above 0; its share is the weight over the sum of all.
    pub weight: f64,
    /// Tokens of the prompt; not [`Length::Trace`].
    pub prompt: Length,
    /// Tokens to generate; not [`Length::Trace`].
    pub output: Length,
    /// Beginnings that its prompts share. Classes share none with each other.
    #[serde(default)]
    pub prefix: Option<Prefix>,
}

impl Class {
    /// Short questions: prompts `lognormal(128,0.6,8,512)`, outputs `lognormal(96,0.6,8,384)`.
    pub fn short(weight: f64) -> Class {
        Class::preset("short", weight, (128, 8, 512), (96, 8, 384))
    }

    /// Conversation: prompts `lognormal(1024,0.6,128,4096)`, outputs `lognormal(256,0.6,16,1024)`.
    pub fn medium(weight: f64) -> Class {
        Class::preset("medium", weight, (1024, 128, 4096), (256, 16, 1024))
    }

    /// Documents: prompts `lognormal(8192,0.6,2048,32768)`, outputs `lognormal(512,0.6,32,2048)`.
    pub fn long(weight: f64) -> Class {
        Class::preset("long", weight, (8192, 2048, 32_768), (512, 32, 2048))
    }

    fn preset(name: &str, weight: f64, prompt: (u32, u32, u32), output: (u32, u32, u32)) -> Class {
        let length =
            |(median, low, high)| Length::LogNormal { median: f64::from(median), sigma: 0.6, low, high };
        Class { name: name.to_owned(), weight, prompt: length(prompt), output: length(output), prefix: None }
    }
}

/// Requests of several classes, each request's class drawn by weight.
#[derive(Debug, Clone)]
pub struct Mix {
    classes: Vec<(Class, Synthetic)>,
    total: f64,
    seed: u64,
}

impl Mix {
    /// A mix of classes.
    ///
    /// # Errors
    /// No classes or more than 1000, two of one name, a weight that is not positive, or a class that cannot be.
    pub fn new(
        classes: Vec<Class>,
        vocabulary: &Arc<dyn Vocabulary>,
        form: Form,
        seed: u64,
    ) -> Result<Mix, PromptError> {
        if !(1..=1000).contains(&classes.len()) {
            return Err(PromptError::Classes(classes.len()));
        }
        let mut out: Vec<(Class, Synthetic)> = Vec::with_capacity(classes.len());
        for class in classes {
            if out.iter().any(|(c, _)| c.name == class.name) {
                return Err(PromptError::ClassName(class.name));
            }
            if !(1e-9..=1e9).contains(&class.weight) {
                let rule = "a number from 1e-9 to 1e9";
                return Err(PromptError::Range { field: "weight of a class", value: class.weight, rule });
            }
            let synthetic = Synthetic {
                prompt: class.prompt.clone(),
                output: class.output.clone(),
                prefix: class.prefix,
                replay: None,
                vocabulary: Arc::clone(vocabulary),
                form,
                // By name, so that a class keeps its texts when another is added.
                seed: cotenant_load::stream_seed(seed, &class.name, 1),
            };
            synthetic.check()?;
            out.push((class, synthetic));
        }
        let total = out.iter().map(|(c, _)| c.weight).sum();
        Ok(Mix { classes: out, total, seed })
    }

    /// The classes in the order of their indices.
    pub fn classes(&self) -> impl ExactSizeIterator<Item = &Class> {
        self.classes.iter().map(|(class, _)| class)
    }

    /// The ask with an index; its class is drawn by the seed.
    ///
    /// # Errors
    /// The vocabulary finds no text of the length.
    pub fn ask(&self, index: u64) -> Result<Ask, PromptError> {
        self.ask_in(index, None)
    }

    /// The ask with an index, its text from another seed than its class and lengths.
    pub(crate) fn ask_in(&self, index: u64, texts: Option<u64>) -> Result<Ask, PromptError> {
        let mut left = generator(self.seed, "class", index).random::<f64>() * self.total;
        let mut found = None;
        for (i, (class, synthetic)) in (0u16..).zip(&self.classes) {
            // The last one also where rounding leaves a rest.
            found = Some((i, synthetic));
            left -= class.weight;
            if left < 0.0 {
                break;
            }
        }
        let (class, synthetic) = found.ok_or(PromptError::Classes(0))?;
        Ok(Ask { class: Some(class), ..synthetic.ask_in(index, texts.unwrap_or(synthetic.seed))? })
    }
}
