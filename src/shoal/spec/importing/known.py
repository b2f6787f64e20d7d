"""What is known by name: images that people use, and compose's keys that have no place in an app file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


class Role(Enum):
    """What an image is for."""

    DATA = "data"
    PROXY = "proxy"
    RUNTIME = "runtime"
    """A language and nothing else: what runs in it comes from a bind mount."""
    TOOL = "tool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    title: str
    role: Role
    port: int | None = None
    http: bool = False


_HTTP = {"elasticsearch", "opensearch", "clickhouse-server", "influxdb", "minio", "qdrant"}
"""Data that is asked for over HTTP."""
_DATA = {
    "postgres": ("PostgreSQL", 5432), "postgis": ("PostgreSQL", 5432), "timescaledb": ("PostgreSQL", 5432),
    "pgvector": ("PostgreSQL", 5432), "postgresql": ("PostgreSQL", 5432), "mysql": ("MySQL", 3306),
    "mariadb": ("MariaDB", 3306), "redis": ("Redis", 6379), "valkey": ("Valkey", 6379), "mongo": ("MongoDB", 27017),
    "mongodb": ("MongoDB", 27017), "rabbitmq": ("RabbitMQ", 5672), "memcached": ("Memcached", 11211),
    "elasticsearch": ("Elasticsearch", 9200), "opensearch": ("OpenSearch", 9200), "kafka": ("Kafka", 9092),
    "cp-kafka": ("Kafka", 9092), "redpanda": ("Redpanda", 9092), "zookeeper": ("ZooKeeper", 2181),
    "cp-zookeeper": ("ZooKeeper", 2181), "nats": ("NATS", 4222), "minio": ("MinIO", 9000),
    "clickhouse-server": ("ClickHouse", 8123), "cassandra": ("Cassandra", 9042), "influxdb": ("InfluxDB", 8086),
    "neo4j": ("Neo4j", 7687), "etcd": ("etcd", 2379), "mssql": ("SQL Server", 1433), "qdrant": ("Qdrant", 6333),
}  # fmt: skip
_PROXIES = {"nginx": "nginx", "traefik": "Traefik", "caddy": "Caddy", "haproxy": "HAProxy", "httpd": "Apache httpd",
            "envoy": "Envoy", "nginx-unprivileged": "nginx", "kong": "Kong"}  # fmt: skip
_RUNTIMES = {"python", "node", "golang", "ruby", "php", "openjdk", "eclipse-temurin", "bun", "deno", "elixir", "rust",
             "perl"}  # fmt: skip
_TOOLS = {
    "adminer": ("Adminer", 8080), "pgadmin4": ("pgAdmin", 80), "mailhog": ("MailHog", 1025),
    "mailpit": ("Mailpit", 1025), "all-in-one": ("Jaeger", 16686), "prometheus": ("Prometheus", 9090),
    "grafana": ("Grafana", 3000), "localstack": ("LocalStack", 4566), "keycloak": ("Keycloak", 8080),
    "vault": ("Vault", 8200), "mongo-express": ("mongo-express", 8081), "redis-commander": ("Redis Commander", 8081),
    "phpmyadmin": ("phpMyAdmin", 80), "flower": ("Flower", 5555), "opentelemetry-collector": ("OpenTelemetry", 4317),
    "opentelemetry-collector-contrib": ("OpenTelemetry", 4317), "zipkin": ("Zipkin", 9411), "loki": ("Loki", 3100),
}  # fmt: skip


def image(name: str) -> Known | None:
    """By an image's last word: `docker.io/bitnami/redis:7` is Redis."""
    word = re.split(r"[:@]", name.rpartition("/")[2])[0].lower()
    if word in _DATA:
        return Known(title=_DATA[word][0], role=Role.DATA, port=_DATA[word][1], http=word in _HTTP)
    if word in _PROXIES:
        return Known(title=_PROXIES[word], role=Role.PROXY, port=80)
    if word in _RUNTIMES:
        return Known(title=word, role=Role.RUNTIME)
    if word in _TOOLS:
        return Known(title=_TOOLS[word][0], role=Role.TOOL, port=_TOOLS[word][1])
    return None


REASONS: dict[str, tuple[str, str]] = {
    "user": ("every process runs as the user who runs Shoal", ""),
    "privileged": ("processes get no rights that the user has not", ""),
    "cap_add": ("processes get no rights that the user has not", ""),
    "devices": ("processes see the machine's devices as the user does", ""),
    "gpus": ("processes see the machine's devices as the user does", ""),
    "mem_limit": ("Shoal sets no limits on memory", "limit it in the program, or the whole app from outside"),
    "mem_reservation": ("Shoal sets no limits on memory", ""),
    "cpus": ("Shoal sets no limits on CPU", ""),
    "cpu_shares": ("Shoal sets no limits on CPU", ""),
    "cpuset": ("Shoal sets no limits on CPU", "start it with taskset"),
    "pids_limit": ("Shoal sets no limits on processes", ""),
    "ulimits": ("limits are those of the shell that runs Shoal", "set them there: ulimit"),
    "sysctls": ("they are the machine's", "set them there"),
    "shm_size": ("/dev/shm is the machine's", ""),
    "extra_hosts": ("names that are not of the app are the machine's", "put them into its /etc/hosts"),
    "external_links": ("containers outside of this file are not known", "name them by an address"),
    "dns": ("DNS is the machine's", ""),
    "dns_search": ("DNS is the machine's", ""),
    "network_mode": ("there are no container networks", "services reach each other by `calls`"),
    "develop": ("files are not copied into a container that could be watched", ""),
    "volumes_from": ("there are no containers whose volumes could be shared", "name a folder in `env`"),
    "tmpfs": ("there is no file system of its own", "the program can use /tmp"),
    "stop_signal": ("Shoal stops with SIGTERM", "let the program end on SIGTERM"),
    "provider": ("Shoal runs no provider", ""),
    "credential_spec": ("it is for Windows", ""),
}
"""Keys of a service -> why they are not carried over, and the way out."""

UNNEEDED = {
    "container_name", "hostname", "domainname", "init", "tty", "stdin_open", "pull_policy", "platform", "networks",
    "logging", "labels", "cap_drop", "security_opt", "read_only", "isolation", "ipc", "pid", "uts", "userns_mode",
    "attach", "annotations", "cgroup", "cgroup_parent", "runtime", "oom_score_adj", "oom_kill_disable", "group_add",
    "mac_address", "blkio_config", "storage_opt", "label_file", "post_start", "pre_stop", "memswap_limit",
    "mem_swappiness", "cpu_count", "cpu_percent", "cpu_period", "cpu_quota", "cpu_rt_period", "cpu_rt_runtime",
    "dns_opt", "device_cgroup_rules", "models", "use_api_socket", "scale",
}  # fmt: skip
"""Keys that are about containers alone."""

HANDLED = {
    "image", "build", "command", "entrypoint", "environment", "env_file", "depends_on", "links", "ports", "expose",
    "volumes", "healthcheck", "deploy", "profiles", "working_dir", "restart", "secrets", "configs", "extends", "scale",
}  # fmt: skip
"""Keys that are looked at one by one."""
