-- Log lines of running attempts, for readers on other replicas: written only while somebody reads there, and kept for
-- seconds. A crash may lose them: whole logs are artifacts.
CREATE UNLOGGED TABLE log_lines (
    workflow_id    uuid NOT NULL,
    -- Who has them.
    replica_id     text NOT NULL,
    -- Among all lines of the workflow that this replica has.
    sequence       bigint NOT NULL,
    line           bytea NOT NULL,
    write_time     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workflow_id, replica_id, sequence)
);

-- Who reads the logs of which workflow there.
CREATE UNLOGGED TABLE log_readers (
    workflow_id    uuid NOT NULL,
    -- Where.
    replica_id     text NOT NULL,
    read_time      timestamptz NOT NULL,
    PRIMARY KEY (workflow_id, replica_id)
);
