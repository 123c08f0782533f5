-- Finished history goes by the era: a range of workflow ids, which are sorted by time, with tables of its own that
-- are dropped whole. What is there already becomes the first era, where it is. Old replicas go on with these tables.

CREATE TABLE eras (
    era            int PRIMARY KEY,
    -- Its workflows have ids from this one on …
    first_id       uuid NOT NULL,
    -- … and before this one. NULL: whatever comes.
    end_id         uuid,
    -- Since when its tables are no part of the others any more, and wait to be dropped.
    detach_time    timestamptz
);
CREATE UNIQUE INDEX eras_open ON eras ((true)) WHERE end_id IS NULL;

-- The first id (UUIDv7) of a millisecond.
CREATE FUNCTION first_id_at(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- The millisecond of an id.
CREATE FUNCTION time_of_id(id uuid) RETURNS timestamptz LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT to_timestamp(('x' || lpad(substr(replace(id::text, '-', ''), 1, 12), 16, '0'))::bit(64)::bigint / 1000.0)
$$;

-- Decisions and clarifications have one primary key for all eras, and are looked for by their own id besides.
ALTER TABLE decisions DROP CONSTRAINT decisions_pkey;
DROP INDEX decisions_by_workflow;
ALTER TABLE clarifications DROP CONSTRAINT clarifications_pkey;
DROP INDEX clarifications_by_workflow;

DO $$
DECLARE
    part text;
    part_index text;
BEGIN
    FOREACH part IN ARRAY ARRAY['workflows', 'submissions', 'results', 'events', 'attempts', 'decisions', 'clarifications']
    LOOP
        FOR part_index IN
            SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
            WHERE indrelid = part::regclass
        LOOP
            EXECUTE format('ALTER INDEX %I RENAME TO %I', part_index, part_index || '_era_1');
        END LOOP;
        EXECUTE format('ALTER TABLE %I RENAME TO %I', part, part || '_era_1');
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS) PARTITION BY RANGE (workflow_id)',
                       part, part || '_era_1');
    END LOOP;
END
$$;

ALTER TABLE workflows ADD PRIMARY KEY (workflow_id);
CREATE INDEX workflows_by_state ON workflows (namespace, state, workflow_id DESC);
CREATE INDEX workflows_by_name ON workflows (namespace, name, workflow_id DESC);
CREATE INDEX workflows_by_labels ON workflows USING gin (labels jsonb_path_ops);
CREATE INDEX workflows_by_deadline ON workflows (deadline) WHERE end_time IS NULL;
CREATE INDEX workflows_by_end ON workflows (end_time) WHERE end_time IS NOT NULL;
ALTER TABLE submissions ADD PRIMARY KEY (workflow_id);
ALTER TABLE results ADD PRIMARY KEY (workflow_id, stage);
ALTER TABLE events ADD PRIMARY KEY (workflow_id, sequence);
ALTER TABLE attempts ADD PRIMARY KEY (workflow_id, stage, attempt, lease_epoch);
ALTER TABLE decisions ADD PRIMARY KEY (workflow_id, decision_id);
CREATE INDEX decisions_by_id ON decisions (decision_id);
CREATE INDEX decisions_open ON decisions (namespace, decision_id) WHERE resolve_time IS NULL;
ALTER TABLE clarifications ADD PRIMARY KEY (workflow_id, clarification_id);
CREATE INDEX clarifications_by_id ON clarifications (clarification_id);
CREATE INDEX clarifications_open ON clarifications (namespace, clarification_id) WHERE answer_time IS NULL;

DO $$
DECLARE
    part text;
    end_id uuid := greatest(
        first_id_at(now()),
        (SELECT first_id_at(time_of_id(workflow_id) + interval '1 ms') FROM workflows_era_1
         ORDER BY workflow_id DESC LIMIT 1));
BEGIN
    FOREACH part IN ARRAY ARRAY['workflows', 'submissions', 'results', 'events', 'attempts', 'decisions', 'clarifications']
    LOOP
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (MINVALUE) TO (%L)',
                       part, part || '_era_1', end_id);
        EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (MAXVALUE)',
                       part || '_era_2', part, end_id);
    END LOOP;
    ALTER TABLE workflows_era_2 SET (fillfactor = 70, toast_tuple_target = 8160);
    INSERT INTO eras (era, first_id, end_id)
    VALUES (1, '00000000-0000-0000-0000-000000000000', end_id), (2, end_id, NULL);
END
$$;

-- Artifacts go with the workflows of an era, whatever their namespace is; their bytes when no artifact has them.
DROP INDEX artifacts_by_workflow;
CREATE INDEX artifacts_by_workflow ON artifacts (workflow_id, namespace, position);
DROP INDEX artifacts_by_digest;
CREATE INDEX artifacts_by_digest ON artifacts (digest, namespace);

-- Bytes that lost an artifact.
CREATE TABLE unkept_digests (
    digest         text PRIMARY KEY,
    -- No artifact has them; whoever uploads them now has to wait.
    removing       boolean NOT NULL DEFAULT false,
    -- Kept for as long as an upload may take that found the bytes still there.
    remove_time    timestamptz
);

-- A look for who waits reads nothing but those who wait for that key.
DROP INDEX tasks_parked;
CREATE INDEX tasks_parked ON tasks (concurrency_key) WHERE parked;
