//! `mysqld`: the machine's MariaDB as the images of MySQL and MariaDB start it: with a folder of data
//! that it makes itself, and the database and users that the environment names.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::mysql::quoted;

/// Becomes MariaDB. Arguments are its own. `MYSQL_ROOT_PASSWORD`, `MYSQL_DATABASE`, `MYSQL_USER` and
/// `MYSQL_PASSWORD` (or `MARIADB_...`) are honoured at each start; `tables` are statements that
/// make tables in that database.
pub(crate) fn run(arguments: &[String], tables: &[&str]) -> io::Result<ExitCode> {
    let run = Path::new("/run/mysqld");
    fs::create_dir_all(run)?;
    let (settings, first) = (run.join("settings.cnf"), run.join("first.sql"));
    fs::write(&settings, SETTINGS)?;
    let variable = |name: &str| {
        let value = env::var(format!("MYSQL_{name}")).or(env::var(format!("MARIADB_{name}"))).ok();
        value.filter(|value| !value.is_empty())
    };
    let may_be_empty = variable("ALLOW_EMPTY_PASSWORD").is_some();
    if variable("ROOT_PASSWORD").is_none() && !may_be_empty {
        return Err(io::Error::other(
            "MYSQL_ROOT_PASSWORD is not set: give one, or set MYSQL_ALLOW_EMPTY_PASSWORD to yes",
        ));
    }
    fs::write(&first, statements(variable, tables))?;
    let data = data_folder(arguments)?;
    let is_root = fs::metadata("/proc/self")?.uid() == 0;
    let common = |program: &str| {
        let mut command = Command::new(program);
        command.arg(format!("--defaults-file={}", settings.display()));
        command.arg(format!("--datadir={}", data.display()));
        // It refuses to be root without being told so.
        command.args(is_root.then_some("--user=root"));
        command
    };
    if !data.join("mysql").exists() {
        writeln!(io::stderr(), "making the folder of data {}", data.display())?;
        let made = common("mariadb-install-db")
            .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
            .output()?;
        if !made.status.success() {
            io::stderr().write_all(&made.stdout)?;
            io::stderr().write_all(&made.stderr)?;
            return Err(io::Error::other("the folder of data could not be made"));
        }
    }
    let own = own_options(arguments);
    let first = format!("--init-file={}", first.display());
    Err(common("mariadbd").arg(first).args(own).exec())
}

/// The options of a command line that are MariaDB's: `mysqld` may stand first, and how passwords are
/// proved by default is an option of MySQL alone; here it is `mysql_native_password`.
fn own_options(arguments: &[String]) -> Vec<&String> {
    let mut own = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.trim_start_matches('-').split_once('=') {
            None if matches!(&**argument, "mysqld" | "mariadbd") => {}
            None if argument == "--default-authentication-plugin" => drop(rest.next()),
            Some(("default-authentication-plugin", _)) => {}
            _ => own.push(argument),
        }
    }
    own
}

/// `--datadir`, or where the images have it. The machine's own folder of this name can be one that a
/// pod may not use; then it is one that ends with the pod.
fn data_folder(arguments: &[String]) -> io::Result<PathBuf> {
    if let Some(given) = arguments.iter().find_map(|a| a.strip_prefix("--datadir=")) {
        return Ok(given.into());
    }
    let usual = Path::new("/var/lib/mysql");
    let probe = usual.join(".ironmesh");
    if fs::create_dir_all(usual).and_then(|()| fs::write(&probe, "")).is_ok() {
        fs::remove_file(probe)?;
        return Ok(usual.to_owned());
    }
    let own = Path::new("/run/mysqld/data");
    fs::create_dir_all(own)?;
    Ok(own.to_owned())
}

/// What is said to the server at each start, a statement per line.
fn statements(variable: impl Fn(&str) -> Option<String>, tables: &[&str]) -> String {
    let mut all = Vec::new();
    let root = quoted(&variable("ROOT_PASSWORD").unwrap_or_default());
    for host in ["localhost", "%"] {
        all.push(format!("CREATE USER IF NOT EXISTS root@'{host}' IDENTIFIED BY {root}"));
        all.push(format!("ALTER USER root@'{host}' IDENTIFIED BY {root}"));
        all.push(format!("GRANT ALL ON *.* TO root@'{host}' WITH GRANT OPTION"));
    }
    let database = variable("DATABASE").map(|name| format!("`{}`", name.replace('`', "``")));
    if let Some(database) = &database {
        all.push(format!("CREATE DATABASE IF NOT EXISTS {database}"));
    }
    if let Some(user) = variable("USER").filter(|user| user != "root") {
        let (user, password) = (quoted(&user), quoted(&variable("PASSWORD").unwrap_or_default()));
        all.push(format!("CREATE USER IF NOT EXISTS {user}@'%' IDENTIFIED BY {password}"));
        if let Some(database) = &database {
            all.push(format!("GRANT ALL ON {database}.* TO {user}@'%'"));
        }
    }
    if let Some(database) = &database {
        all.push(format!("USE {database}"));
        all.extend(tables.iter().map(|&table| table.to_owned()));
    }
    // A line break in a value would end its statement.
    all.iter().map(|statement| statement.replace(['\n', '\r'], " ") + ";\n").collect()
}

/// The table of the voting application's second storage.
pub(crate) const VOTES: &[&str] = &["CREATE TABLE IF NOT EXISTS azurevote (voteid INT NOT NULL \
    AUTO_INCREMENT, votevalue VARCHAR(45) NOT NULL, PRIMARY KEY (voteid))"];
/// The ratings that Bookinfo's database begins with.
pub(crate) const RATINGS: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS ratings (ReviewID INT NOT NULL, Rating INT, PRIMARY KEY (ReviewID))",
    "INSERT IGNORE INTO ratings VALUES (1, 5), (2, 4)",
];

/// As little memory as it can do with, and all the names that images use. A manifest's files in
/// `conf.d` come after, arguments last.
const SETTINGS: &str = "\
[mysqld]
bind-address=0.0.0.0
port=3306
socket=/run/mysqld/mysqld.sock
pid-file=/run/mysqld/mysqld.pid
skip-name-resolve
performance-schema=OFF
innodb-buffer-pool-size=8M
innodb-log-file-size=8M
innodb-use-native-aio=OFF
key-buffer-size=1M
aria-pagecache-buffer-size=1M
!includedir /etc/mysql/conf.d/
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_the_database_and_its_user() {
        let variable = |name: &str| {
            let value = match name {
                "ROOT_PASSWORD" => "it's",
                "DATABASE" => "azure`vote",
                "USER" => "dbuser",
                "PASSWORD" => "a\nb",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let text = statements(variable, VOTES);
        for line in [
            "ALTER USER root@'%' IDENTIFIED BY 'it''s';",
            "CREATE DATABASE IF NOT EXISTS `azure``vote`;",
            "CREATE USER IF NOT EXISTS 'dbuser'@'%' IDENTIFIED BY 'a b';",
            "GRANT ALL ON `azure``vote`.* TO 'dbuser'@'%';",
            "USE `azure``vote`;",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\n{text}");
        }
        assert!(text.lines().all(|line| line.ends_with(';')), "{text}");
    }

    #[test]
    fn without_a_database_there_are_no_tables() {
        let text = statements(|_| None, RATINGS);
        assert!(!text.contains("ratings") && !text.contains("\nUSE"), "{text}");
    }

    #[test]
    fn options_that_only_mysql_has_are_left_out() {
        for (line, own) in [
            ("mysqld --sql-mode=ANSI", "--sql-mode=ANSI"),
            ("--default-authentication-plugin mysql_native_password --port=1", "--port=1"),
            ("--default-authentication-plugin=mysql_native_password", ""),
            ("--default-authentication-plugin", ""),
            ("--port 3307", "--port 3307"),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let kept: Vec<&str> = own_options(&words).into_iter().map(String::as_str).collect();
            assert_eq!(kept.join(" "), own, "{line}");
        }
    }
}
