-- The engine's tables. Small hot rows, payloads beside them, history apart.

CREATE TABLE workflows (
    workflow_id    uuid PRIMARY KEY,
    namespace      text NOT NULL,
    version        bigint NOT NULL,
    state          smallint NOT NULL,
    type           smallint NOT NULL,
    name           text NOT NULL,
    priority       smallint NOT NULL,
    labels         jsonb NOT NULL,
    environment    text NOT NULL,
    create_time    timestamptz NOT NULL,
    end_time       timestamptz,
    deadline       timestamptz NOT NULL,
    last_sequence  bigint NOT NULL,
    live           bytea NOT NULL
) WITH (fillfactor = 70);

-- Lists are newest first; ids are sorted by time.
CREATE INDEX workflows_by_state ON workflows (namespace, state, workflow_id DESC);
CREATE INDEX workflows_by_name ON workflows (namespace, name, workflow_id DESC);
CREATE INDEX workflows_by_labels ON workflows USING gin (labels jsonb_path_ops);
-- Only what has not ended can run out of time.
CREATE INDEX workflows_by_deadline ON workflows (deadline) WHERE end_time IS NULL;

-- What was asked for; written once.
CREATE TABLE submissions (
    workflow_id    uuid PRIMARY KEY,
    request        bytea NOT NULL,
    pipeline       bytea NOT NULL,
    traceparent    text NOT NULL
);

-- The last result of each stage.
CREATE TABLE results (
    workflow_id    uuid NOT NULL,
    stage          text NOT NULL,
    result         bytea NOT NULL,
    PRIMARY KEY (workflow_id, stage)
);

CREATE TABLE events (
    workflow_id    uuid NOT NULL,
    sequence       bigint NOT NULL,
    time           timestamptz NOT NULL,
    stage          text NOT NULL,
    event          bytea NOT NULL,
    PRIMARY KEY (workflow_id, sequence)
);

-- Only tasks that wait or are leased: small and hot.
CREATE TABLE tasks (
    task_id        uuid PRIMARY KEY,
    namespace      text NOT NULL,
    workflow_id    uuid NOT NULL,
    stage          text NOT NULL,
    agent_type     smallint NOT NULL,
    leased         boolean NOT NULL,
    lease_epoch    bigint NOT NULL,
    owner          text NOT NULL,
    instance_id    uuid,
    address        text NOT NULL,
    lease_expires  timestamptz,
    ready_time     timestamptz NOT NULL,
    -- `ready_time` less 10 min for each level of priority: waiting raises the priority.
    order_time     timestamptz NOT NULL,
    start_deadline timestamptz NOT NULL
) WITH (fillfactor = 70);

CREATE INDEX tasks_waiting ON tasks (agent_type, order_time) WHERE NOT leased;
CREATE INDEX tasks_leased ON tasks (owner) WHERE leased;
CREATE INDEX tasks_by_workflow ON tasks (workflow_id);

-- Attempts that are over.
CREATE TABLE attempts (
    workflow_id    uuid NOT NULL,
    stage          text NOT NULL,
    attempt        int NOT NULL,
    task_id        uuid NOT NULL,
    lease_epoch    bigint NOT NULL,
    instance_id    uuid,
    ending         text NOT NULL,
    reason         text NOT NULL,
    start_time     timestamptz,
    end_time       timestamptz NOT NULL,
    PRIMARY KEY (workflow_id, stage, attempt, lease_epoch)
);

CREATE TABLE decisions (
    decision_id    uuid PRIMARY KEY,
    namespace      text NOT NULL,
    workflow_id    uuid NOT NULL,
    stage          text NOT NULL,
    request        bytea NOT NULL,
    create_time    timestamptz NOT NULL,
    expire_time    timestamptz NOT NULL,
    resolve_time   timestamptz,
    resolution     smallint NOT NULL DEFAULT 0,
    choice         text NOT NULL DEFAULT '',
    rationale      text NOT NULL DEFAULT '',
    actor          text NOT NULL DEFAULT ''
);
CREATE INDEX decisions_open ON decisions (namespace, decision_id) WHERE resolve_time IS NULL;
CREATE INDEX decisions_by_workflow ON decisions (workflow_id, decision_id);

CREATE TABLE clarifications (
    clarification_id uuid PRIMARY KEY,
    namespace      text NOT NULL,
    workflow_id    uuid NOT NULL,
    stage          text NOT NULL,
    question       text NOT NULL,
    kind           smallint NOT NULL,
    choices        text[] NOT NULL,
    round          int NOT NULL,
    create_time    timestamptz NOT NULL,
    expire_time    timestamptz NOT NULL,
    answer_time    timestamptz,
    answer         text NOT NULL DEFAULT '',
    actor          text NOT NULL DEFAULT ''
);
CREATE INDEX clarifications_open ON clarifications (namespace, clarification_id) WHERE answer_time IS NULL;
CREATE INDEX clarifications_by_workflow ON clarifications (workflow_id, clarification_id);

-- Answers of mutating calls, for 24 h.
CREATE TABLE requests (
    namespace      text NOT NULL,
    request_id     text NOT NULL,
    method         text NOT NULL,
    content        bytea NOT NULL,
    subject        text NOT NULL,
    create_time    timestamptz NOT NULL,
    PRIMARY KEY (namespace, request_id)
);
CREATE INDEX requests_by_time ON requests (create_time);

-- Versions of pipelines that users stored.
CREATE TABLE pipelines (
    pipeline_id    uuid NOT NULL,
    namespace      text NOT NULL,
    name           text NOT NULL,
    version        int NOT NULL,
    pipeline       bytea NOT NULL,
    create_time    timestamptz NOT NULL,
    delete_time    timestamptz,
    PRIMARY KEY (pipeline_id, version)
);
CREATE UNIQUE INDEX pipelines_by_name ON pipelines (namespace, name, version) WHERE delete_time IS NULL;

-- Orchestrator processes; a row that is not renewed is a dead one.
CREATE TABLE replicas (
    replica_id     text PRIMARY KEY,
    start_time     timestamptz NOT NULL,
    renew_time     timestamptz NOT NULL
);
