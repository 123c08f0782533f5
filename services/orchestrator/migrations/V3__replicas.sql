-- What replicas need to know of each other: agents that are connected elsewhere, and workflows that
-- others ended a moment ago.

-- A copy of what each replica knows of its agents, renewed every few seconds: a crash of the server
-- may lose it.
CREATE UNLOGGED TABLE agents (
    instance_id    uuid PRIMARY KEY,
    -- The replica that it is, or was last, connected to.
    replica_id     text NOT NULL,
    connected      boolean NOT NULL,
    -- Somebody asked for it to get no new work.
    draining       boolean NOT NULL,
    connect_time   timestamptz NOT NULL,
    update_time    timestamptz NOT NULL,
    -- As clients see it.
    agent          bytea NOT NULL
) WITH (fillfactor = 70);

CREATE INDEX workflows_by_end ON workflows (end_time) WHERE end_time IS NOT NULL;
