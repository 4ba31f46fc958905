use std::{env, str::FromStr};

use anyhow::{Context as _, Result};

/// The number in a variable of the environment, by which somebody asks for more or less of something.
pub fn number<T: FromStr>(variable: &str, default: T) -> Result<T> {
    let Ok(text) = env::var(variable) else { return Ok(default) };
    text.parse().ok().with_context(|| format!("{variable}={text} is not a number that can be used"))
}
