//! The help in one layout, its verbs in groups; and what is said of a wrong command line.

use std::io::{IsTerminal, Write, stderr};
use std::path::Path;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};

use crate::fetch::is_url;
use crate::say;

/// The command with its verbs listed in groups, and one help for `-h` and `--help`.
pub(crate) fn laid_out(command: Command, groups: &[(&str, &[&str])]) -> Command {
    let list = listed(&command, groups);
    one_help(command).help_template(template(&list))
}

/// The verbs of a command in groups, each with what it is about in short.
fn listed(command: &Command, groups: &[(&str, &[&str])]) -> String {
    let about = |name: &str| {
        let verb = command.find_subcommand(name);
        let about = verb.and_then(Command::get_about).map(ToString::to_string);
        // clap adds `help` itself, later.
        about.unwrap_or_else(|| "Print the help of a verb".to_owned())
    };
    let verbs = groups.iter().flat_map(|(_, verbs)| *verbs);
    let width = verbs.map(|verb| verb.len()).max().unwrap_or_default() + 2;
    let mut list = String::new();
    for (title, verbs) in groups {
        list.push_str(&format!("\x1b[1;4m{title}:\x1b[0m\n"));
        for verb in *verbs {
            list.push_str(&format!(
                "  \x1b[1m{verb}\x1b[0m{:1$}{2}\n",
                "",
                width - verb.len(),
                about(verb)
            ));
        }
        list.push('\n');
    }
    list
}

fn template(list: &str) -> String {
    format!(
        "{{before-help}}{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{list}\
         \x1b[1;4mOptions:\x1b[0m\n{{options}}{{after-help}}"
    )
}

/// Shows the whole of what a command is about by `-h` as by `--help`, in the short layout.
fn one_help(command: Command) -> Command {
    let whole = command.get_long_about().or(command.get_about()).cloned();
    let command = match whole {
        Some(whole) => command.about(whole).long_about(None),
        None => command,
    };
    let help = Arg::new("help").short('h').long("help").action(ArgAction::HelpShort);
    let command = command.disable_help_flag(true).arg(help.help("Print help"));
    let names: Vec<String> =
        command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    // Else clap would list the whole of what each verb is about.
    let command = if names.is_empty() || command.get_positionals().next().is_some() {
        command
    } else {
        let shown = command.get_subcommands().filter(|verb| !verb.is_hide_set());
        let words = shown.map(Command::get_name).filter(|name| *name != "help");
        let words: Vec<&str> = words.chain(["help"]).collect();
        let list = listed(&command, &[("Commands", &words)]);
        command.help_template(template(&list))
    };
    names
        .iter()
        .filter(|name| *name != "help")
        .fold(command, |command, name| command.mut_subcommand(name, one_help))
}

/// Says what is wrong with a command line, or prints the help or version that was asked for.
///
/// # Errors
///
/// If standard output cannot be written to.
pub(crate) fn complain(error: clap::Error) -> anyhow::Result<ExitCode> {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        error.print()?;
        return Ok(ExitCode::SUCCESS);
    }
    let rendered = error.render();
    let text = match stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        true => rendered.ansi().to_string(),
        false => rendered.to_string(),
    };
    let mut lines: Vec<&str> = text.lines().collect();
    // An unknown option is hardly ever meant as a value.
    lines.retain(|line| !(line.contains("tip:") && line.contains("as a value, use")));
    lines.dedup_by(|line, before| line.is_empty() && before.is_empty());
    // Nothing is left to tell if that fails.
    let _ = writeln!(stderr(), "{}", lines.join("\n").trim_end());
    if error.kind() == ErrorKind::UnknownArgument
        && let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg)
        && is_manifest(word)
    {
        say::notice(&format!("\n  tip: manifests are named with -f: -f {word}"));
    }
    Ok(ExitCode::from(2))
}

/// Whether a word names what manifests are read from.
pub(crate) fn is_manifest(word: &str) -> bool {
    let extension = Path::new(word).extension().and_then(|extension| extension.to_str());
    is_url(word) || matches!(extension, Some("yaml" | "yml" | "json"))
}
