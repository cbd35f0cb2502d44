//! The table of well-known images.

use super::{FERRETDB, SAMPLES};

/// A row of the table.
pub(super) struct Known {
    /// Names without registry and tag.
    pub(super) patterns: &'static [&'static str],
    pub(super) entrypoint: &'static [&'static str],
    pub(super) program: &'static [&'static str],
    pub(super) options: &'static [&'static str],
    pub(super) env: &'static [(&'static str, &'static str)],
    /// Files of the original image for which its program stands.
    pub(super) names: &'static [&'static str],
    /// Whether the original's entry point is a script that runs arguments that name a program.
    pub(super) runs_programs: bool,
    /// Programs that the machine must have, and the packages of Debian that bring them.
    pub(super) needs: &'static [(&'static str, &'static str)],
}

const NOTHING: Known = Known {
    patterns: &[],
    entrypoint: &[],
    program: &[],
    options: &[],
    env: &[],
    names: &[],
    runs_programs: false,
    needs: &[],
};

/// One of our sample applications.
const fn sample(
    patterns: &'static [&'static str],
    program: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
) -> Known {
    Known { patterns, program, env, ..NOTHING }
}

/// One of our sample applications, whose original has a program that manifests name.
const fn named(
    patterns: &'static [&'static str],
    program: &'static [&'static str],
    names: &'static [&'static str],
) -> Known {
    Known { patterns, program, names, ..NOTHING }
}

/// A program of the machine.
const fn program(
    patterns: &'static [&'static str],
    program: &'static [&'static str],
    options: &'static [&'static str],
    needs: &'static [(&'static str, &'static str)],
) -> Known {
    Known { patterns, program, options, needs, ..NOTHING }
}

/// The machine's MariaDB.
const fn database(patterns: &'static [&'static str], program: &'static [&'static str]) -> Known {
    let needs = &[("mariadbd", "mariadb-server"), ("mariadb-install-db", "mariadb-server")];
    let names = &["mysqld", "mariadbd", "docker-entrypoint.sh"];
    Known { needs, ..named(patterns, program, names) }
}

/// A MongoDB server that is built on this machine.
const fn mongodb(patterns: &'static [&'static str], program: &'static [&'static str]) -> Known {
    named(patterns, program, &["mongod", "docker-entrypoint.sh", "entrypoint.sh", "run.sh"])
}

/// The well-known images, first match wins.
pub(super) const KNOWN: &[Known] = &[
    sample(&["*bookinfo-productpage*"], &[SAMPLES, "productpage"], &[]),
    sample(
        &["*bookinfo-details-v2"],
        &[SAMPLES, "details"],
        &[("SERVICE_VERSION", "v2"), ("ENABLE_EXTERNAL_BOOK_SERVICE", "true")],
    ),
    sample(
        &["*bookinfo-details*"],
        &[SAMPLES, "details"],
        &[("SERVICE_VERSION", "v1"), ("ENABLE_EXTERNAL_BOOK_SERVICE", "false")],
    ),
    sample(&["*bookinfo-ratings-v2"], &[SAMPLES, "ratings"], &[("SERVICE_VERSION", "v2")]),
    sample(&["*bookinfo-ratings*"], &[SAMPLES, "ratings"], &[("SERVICE_VERSION", "v1")]),
    sample(
        &["*bookinfo-reviews-v1"],
        &[SAMPLES, "reviews-v1"],
        &[("SERVICE_VERSION", "v1"), ("ENABLE_RATINGS", "false")],
    ),
    sample(
        &["*bookinfo-reviews-v2"],
        &[SAMPLES, "reviews-v2"],
        &[("SERVICE_VERSION", "v2"), ("ENABLE_RATINGS", "true"), ("STAR_COLOR", "black")],
    ),
    sample(
        &["*bookinfo-reviews-v3"],
        &[SAMPLES, "reviews-v3"],
        &[("SERVICE_VERSION", "v3"), ("ENABLE_RATINGS", "true"), ("STAR_COLOR", "red")],
    ),
    sample(&["*helloworld-v1"], &[SAMPLES, "helloworld-v1"], &[("SERVICE_VERSION", "v1")]),
    sample(&["*helloworld-v2"], &[SAMPLES, "helloworld-v2"], &[("SERVICE_VERSION", "v2")]),
    Known {
        env: &[("PORT", "8080")],
        ..named(&["*go-httpbin"], &[SAMPLES, "httpbin"], &["go-httpbin"])
    },
    named(&["*httpbin"], &[SAMPLES, "httpbin"], &["gunicorn"]),
    named(&["podinfo", "*/podinfo"], &[SAMPLES, "podinfo", "{tag}"], &["podinfo", "podcli"]),
    Known {
        entrypoint: &[SAMPLES, "tcp-echo"],
        options: &["9000", "hello"],
        ..named(&["*tcp-echo-server"], &[], &["tcp-echo"])
    },
    Known {
        entrypoint: &[SAMPLES, "fortio"],
        options: &["server"],
        ..named(&["fortio", "*/fortio"], &[], &["fortio"])
    },
    sample(&["tkubica/web", "*/myweb"], &[SAMPLES, "myweb", "{tag}"], &[]),
    sample(&["ratings-web", "*/ratings-web"], &[SAMPLES, "ratings-web"], &[]),
    sample(&["*/retry-backend"], &[SAMPLES, "retry-backend"], &[]),
    sample(&["*/sniffer"], &[SAMPLES, "sniffer"], &[]),
    program(&["siege", "*/siege"], &["siege"], &[], &[("siege", "siege")]),
    sample(
        &["sleep", "*/sleep", "*-sleep", "*/curl-ssl", "ironmesh/client"],
        &["sleep", "infinity"],
        &[],
    ),
    Known {
        entrypoint: &["curl"],
        runs_programs: true,
        ..sample(&["curl", "*/curl", "*-curl"], &[], &[])
    },
    program(
        &["redis", "*/redis"],
        &["redis-server"],
        &["--protected-mode", "no"],
        &[("redis-server", "redis-server")],
    ),
    database(&["mysql", "*/mysql", "mariadb", "*/mariadb"], &[SAMPLES, "mysqld"]),
    Known {
        env: &[("MYSQL_DATABASE", "test")],
        ..database(&["*bookinfo-mysqldb"], &[SAMPLES, "bookinfo-mysqldb"])
    },
    database(&["*voting/storage", "*/voting-storage"], &[SAMPLES, "voting-storage"]),
    sample(&["*voting/app", "*/voting-app"], &[SAMPLES, "voting-app", "{tag}"], &[]),
    sample(
        &["*voting/analytics", "*/voting-analytics"],
        &[SAMPLES, "voting-analytics", "{tag}"],
        &[],
    ),
    mongodb(&["*/mongodb"], &[FERRETDB, "0.0.0.0:27017", "/bitnami/mongodb", "/run/mongodb"]),
    mongodb(
        &["mongo", "*/mongo", "*bookinfo-mongodb"],
        &[FERRETDB, "0.0.0.0:27017", "/data/db", "/run/mongodb"],
    ),
    sample(&["ratings-api", "*/ratings-api"], &[SAMPLES, "ratings-api"], &[]),
    Known {
        names: &["nginx"],
        ..program(&["nginx", "*/nginx"], &[SAMPLES, "nginx"], &[], &[("nginx", "nginx")])
    },
    program(&["busybox", "*/busybox", "alpine", "*/alpine"], &["/bin/sh"], &[], &[]),
    program(&["ubuntu", "*/ubuntu", "debian", "*/debian"], &["/bin/bash"], &[], &[]),
];
