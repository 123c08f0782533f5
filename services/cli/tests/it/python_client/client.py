"""A client as somebody else would write it, on nothing but the generated code and gRPC's own library.

    client.py ORCHESTRATOR VALIDATION_AGENT REPOSITORY

Ends with 0 when everything was as the contract says. `REPOSITORY` has a good change on `good`.
"""

import hashlib
import sys
import unittest

import grpc
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from agentic.orchestrator.v1 import agent_registry_service_pb2 as registry
from agentic.orchestrator.v1 import agent_registry_service_pb2_grpc as registry_grpc
from agentic.orchestrator.v1 import artifact_service_pb2 as artifact
from agentic.orchestrator.v1 import artifact_service_pb2_grpc as artifact_grpc
from agentic.orchestrator.v1 import decision_service_pb2 as decision
from agentic.orchestrator.v1 import decision_service_pb2_grpc as decision_grpc
from agentic.orchestrator.v1 import pipeline_pb2 as pipeline
from agentic.orchestrator.v1 import workflow_pb2 as workflow
from agentic.orchestrator.v1 import workflow_service_pb2_grpc as workflow_grpc
from agentic.task.v1 import task_pb2 as task
from agentic.validation.v1 import validation_pb2 as validation
from agentic.validation.v1 import validation_pb2_grpc as validation_grpc

ORCHESTRATOR, VALIDATION_AGENT, REPOSITORY = sys.argv[1:4]
NOBODY = "01890a5d-ac96-774b-bcce-b302099a8057"
PATIENCE = 120

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND


def channel(url):
    return grpc.insecure_channel(url.removeprefix("http://"))


def consume(answer):
    """A unary answer, or the whole of a stream."""
    return list(answer) if isinstance(answer, grpc.Call) and hasattr(answer, "__next__") else answer


class Details:
    """What a refusal says, out of its `grpc-status-details-bin`."""

    def __init__(self, error):
        status = rpc_status.from_call(error)
        assert isinstance(status, Status), f"no details: {error}"
        self.code = error.code()
        self.message = error.details()
        self.info = self.one(status, error_details_pb2.ErrorInfo)
        self.precondition = self.one(status, error_details_pb2.PreconditionFailure)
        bad = self.one(status, error_details_pb2.BadRequest)
        self.fields = {}
        for violation in bad.field_violations if bad else ():
            self.fields[violation.field] = violation.description

    @staticmethod
    def one(status, kind):
        for detail in status.details:
            if detail.Is(kind.DESCRIPTOR):
                message = kind()
                detail.Unpack(message)
                return message
        return None


class Client(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.channels = [channel(ORCHESTRATOR), channel(VALIDATION_AGENT)]
        mesh, agent = cls.channels
        cls.workflows = workflow_grpc.WorkflowServiceStub(mesh)
        cls.artifacts = artifact_grpc.ArtifactServiceStub(mesh)
        cls.agents = registry_grpc.AgentRegistryServiceStub(mesh)
        cls.decisions = decision_grpc.DecisionServiceStub(mesh)
        cls.validation = validation_grpc.ValidationServiceStub(agent)

    @classmethod
    def tearDownClass(cls):
        for open_channel in cls.channels:
            open_channel.close()

    def refused(self, call, request, code, reason, *fields):
        with self.subTest(request=str(request)[:200], reason=reason):
            with self.assertRaises(grpc.RpcError) as caught:
                consume(call(request, timeout=PATIENCE))
            details = Details(caught.exception)
            self.assertEqual(details.code, code, details.message)
            self.assertEqual(details.info.domain, "agentic")
            self.assertEqual(details.info.reason, reason)
            self.assertEqual(sorted(details.fields), sorted(fields))
            for field, problem in details.fields.items():
                self.assertTrue(problem)
                self.assertIn(field, details.message)
            return details

    def change(self, **more):
        return workflow.CreateWorkflowRequest(
            type=workflow.WORKFLOW_TYPE_CHANGE,
            name="from python",
            repository=task.Repository(url=REPOSITORY, branch="good", target_branch="main"),
            **more,
        )

    def test_a_change_is_created_watched_and_its_artifacts_are_what_they_say(self):
        request = self.change(request_id="python-1", labels={"client": "python"})
        created = self.workflows.CreateWorkflow(request, timeout=PATIENCE).workflow
        again = self.workflows.CreateWorkflow(request, timeout=PATIENCE).workflow
        self.assertEqual(again.workflow_id, created.workflow_id)

        watch = workflow.WatchWorkflowRequest(workflow_id=created.workflow_id)
        messages = self.workflows.WatchWorkflow(watch, timeout=PATIENCE)
        events = [message.event for message in messages if message.HasField("event")]
        self.assertEqual([event.sequence for event in events], list(range(1, len(events) + 1)))
        self.assertEqual(events[0].WhichOneof("payload"), "created")
        stages = [event.stage for event in events if event.HasField("stage_finished")]
        self.assertEqual(stages[0], "validation")
        ended = workflow.GetWorkflowRequest(workflow_id=created.workflow_id)
        ended = self.workflows.GetWorkflow(ended, timeout=PATIENCE).workflow
        self.assertEqual(ended.state, workflow.WORKFLOW_STATE_SUCCEEDED, ended.outcome)
        self.assertEqual(ended.outcome.verdict, task.VERDICT_PASSED)
        self.assertEqual(ended.last_sequence, events[-1].sequence)
        self.assertEqual(len(ended.outcome.merged_commit), 40)

        request = artifact.ListArtifactsRequest(workflow_id=created.workflow_id)
        kept = self.artifacts.ListArtifacts(request, timeout=PATIENCE)
        self.assertGreater(kept.total_count, 0)
        for stored in kept.artifacts:
            self.download(stored.artifact)

        # What has ended cannot be cancelled.
        request = workflow.CancelWorkflowRequest(workflow_id=created.workflow_id)
        state = grpc.StatusCode.FAILED_PRECONDITION
        details = self.refused(self.workflows.CancelWorkflow, request, state, "WORKFLOW_STATE")
        self.assertEqual(len(details.precondition.violations), 1)
        # Nor is a request id good for something else.
        request = self.change(request_id="python-1", requirements="something else")
        exists = grpc.StatusCode.ALREADY_EXISTS
        self.refused(self.workflows.CreateWorkflow, request, exists, "REQUEST_ID_REUSED")
        size = kept.artifacts[0].artifact.size_bytes
        request = artifact.DownloadArtifactRequest(
            digest=kept.artifacts[0].artifact.digest, offset_bytes=size + 1
        )
        download = self.artifacts.DownloadArtifact
        self.refused(download, request, INVALID, "INVALID_FIELD", "offset_bytes")

    def download(self, described):
        request = artifact.DownloadArtifactRequest(digest=described.digest)
        received = hashlib.sha256()
        size = 0
        for message in self.artifacts.DownloadArtifact(request, timeout=PATIENCE):
            self.assertLessEqual(len(message.chunk), 64 * 1024)
            received.update(message.chunk)
            size += len(message.chunk)
        self.assertEqual(size, described.size_bytes)
        self.assertEqual(f"sha256:{received.hexdigest()}", described.digest)

    def test_every_type_of_agent_is_listed_and_ready(self):
        listed = self.agents.ListAgents(registry.ListAgentsRequest(), timeout=PATIENCE)
        self.assertEqual(listed.total_count, 5)
        types = sorted(agent.agent_type for agent in listed.agents)
        self.assertEqual(types, sorted(set(task.AgentType.values()) - {0}))
        for agent in listed.agents:
            self.assertEqual(agent.state, registry.AGENT_STATE_READY)

    def test_wrong_submissions_name_every_wrong_field(self):
        app, make = workflow.WORKFLOW_TYPE_APP, workflow.CreateWorkflowRequest
        scaffold = pipeline.StageTask()
        scaffold.scaffold.SetInParent()
        for request, fields in [
            (make(), ["type"]),
            (make(type=app, name="Shop!"), ["name"]),
            (make(type=app, name="s", priority=99), ["priority"]),
            (make(type=app, name="s", environment="Prod!"), ["environment"]),
            (make(type=app, name="s", labels={"team": "x" * 64}), ["labels[team]"]),
            (make(type=app, name="s", timeout={"seconds": 31 * 86400}), ["timeout"]),
            (make(type=app, name="s", request_id="x" * 129), ["request_id"]),
            (make(type=app, name="s", requirements="x" * 65537), ["requirements"]),
            (
                make(type=app, name="s", budget=task.Budget(token_count=-1, cost_micros=-1)),
                ["budget.token_count", "budget.cost_micros"],
            ),
            (make(type=app, name="s", parameters={"tests": scaffold}), ["parameters[tests]"]),
            (make(type=app, name="s", parameters={"e2e": scaffold}), ["parameters[e2e]"]),
            (make(type=workflow.WORKFLOW_TYPE_BUGFIX, name="s"), ["repository.url"]),
            (
                make(
                    type=workflow.WORKFLOW_TYPE_CHANGE,
                    name="s",
                    repository=task.Repository(
                        url="--upload-pack=x", branch="-x", target_branch="a..b", base_commit="1"
                    ),
                ),
                [
                    "repository.url",
                    "repository.branch",
                    "repository.target_branch",
                    "repository.base_commit",
                ],
            ),
        ]:
            call = self.workflows.CreateWorkflow
            self.refused(call, request, INVALID, "INVALID_FIELD", *fields)

    def test_other_wrong_requests_name_their_fields(self):
        empty = artifact.UploadArtifactRequest()
        empty.description.SetInParent()
        for call, request, fields in [
            (self.workflows.GetWorkflow, workflow.GetWorkflowRequest(), ["workflow_id"]),
            (
                self.workflows.WatchWorkflow,
                workflow.WatchWorkflowRequest(workflow_id="nope"),
                ["workflow_id"],
            ),
            (
                self.workflows.WatchWorkflow,
                workflow.WatchWorkflowRequest(workflow_id=NOBODY, after_sequence=-1),
                ["after_sequence"],
            ),
            (
                self.workflows.ListWorkflows,
                workflow.ListWorkflowsRequest(page_token="?"),
                ["page_token"],
            ),
            (
                self.agents.ListAgents,
                registry.ListAgentsRequest(page_size=1001, agent_type=99),
                ["page_size", "agent_type"],
            ),
            (
                self.artifacts.DownloadArtifact,
                artifact.DownloadArtifactRequest(digest="sha256:x", limit_bytes=-1),
                ["digest", "limit_bytes"],
            ),
            (
                self.decisions.ResolveDecision,
                decision.ResolveDecisionRequest(),
                ["decision_id", "subject_digest", "resolution"],
            ),
            (self.validation.Execute, validation.ExecuteRequest(), ["task"]),
            (self.validation.Cancel, validation.CancelRequest(lease_epoch=-1), ["task_id", "lease_epoch"]),
        ]:
            self.refused(call, request, INVALID, "INVALID_FIELD", *fields)
        upload = self.artifacts.UploadArtifact
        self.refused(
            lambda request, timeout: upload(iter([request]), timeout=timeout),
            empty,
            INVALID,
            "INVALID_FIELD",
            "artifact",
        )

    def test_what_is_not_there_is_said_to_be_missing(self):
        app = workflow.WORKFLOW_TYPE_APP
        for call, request, reason in [
            (
                self.workflows.GetWorkflow,
                workflow.GetWorkflowRequest(workflow_id=NOBODY),
                "WORKFLOW_NOT_FOUND",
            ),
            (
                self.workflows.WatchWorkflow,
                workflow.WatchWorkflowRequest(workflow_id=NOBODY),
                "WORKFLOW_NOT_FOUND",
            ),
            (
                self.workflows.CreateWorkflow,
                workflow.CreateWorkflowRequest(type=app, name="s", pipeline_id="no-such"),
                "PIPELINE_NOT_FOUND",
            ),
            (
                self.agents.GetAgent,
                registry.GetAgentRequest(instance_id=NOBODY),
                "AGENT_NOT_FOUND",
            ),
            (
                self.artifacts.DownloadArtifact,
                artifact.DownloadArtifactRequest(digest="sha256:" + "0" * 64),
                "ARTIFACT_NOT_FOUND",
            ),
            (
                self.validation.Cancel,
                validation.CancelRequest(task_id="no-such"),
                "TASK_NOT_FOUND",
            ),
        ]:
            self.refused(call, request, NOT_FOUND, reason)

    def test_bytes_that_are_not_the_announced_ones_are_not_kept(self):
        digest = "sha256:" + hashlib.sha256(b"good").hexdigest()
        described = task.Artifact(
            name="note.txt", digest=digest, size_bytes=4, media_type="text/plain"
        )
        description = artifact.ArtifactDescription(artifact=described)

        def send(chunk, timeout):
            messages = [
                artifact.UploadArtifactRequest(description=description),
                artifact.UploadArtifactRequest(chunk=chunk),
            ]
            return self.artifacts.UploadArtifact(iter(messages), timeout=timeout)

        self.refused(send, b"evil", INVALID, "DIGEST_MISMATCH")
        request = artifact.DownloadArtifactRequest(digest=digest)
        self.refused(self.artifacts.DownloadArtifact, request, NOT_FOUND, "ARTIFACT_NOT_FOUND")
        stored = send(b"good", PATIENCE)
        self.assertEqual(stored.artifact.artifact, described)
        self.download(described)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
