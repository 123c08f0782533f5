-- Hot rows stay small and where they are, and what is looked for because time passes is found by an index.

-- A row of a workflow is written with every step: to compress it each time costs more than it saves.
ALTER TABLE workflows SET (toast_tuple_target = 8160);

-- Tasks are found by their own id.
DROP INDEX tasks_by_workflow;
-- Only what waits has an entry: a task that is leased at once costs nothing here.
CREATE INDEX tasks_by_start_deadline ON tasks (start_deadline) WHERE NOT leased;
CREATE INDEX tasks_parked ON tasks (namespace, concurrency_key) WHERE parked;
