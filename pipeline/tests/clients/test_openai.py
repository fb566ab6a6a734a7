"""The API as the `openai` client speaks it, unmodified. Runs with version 3.x and with 2.25."""

import io
import threading

import openai
import pytest

from sora_server import SMALL, SoraServer

MODEL = "on-device-sora-demo"
# What is ours goes as extra fields.
EXTRA = {"steps": 3, "frames": 17, "seed": 42}


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=0) as client:
        yield client


def create(client, prompt="a red circle", **extra):
    return client.videos.create(prompt=prompt, size="32x24", extra_body={**EXTRA, **extra})


def finished(client, video):
    video = client.videos.poll(video.id, poll_interval_ms=50)
    assert video.status == "completed", video.error
    return video


def test_a_video_from_prompt_to_bytes(client):
    video = create(client)
    assert (video.object, video.status, video.model, video.size) == ("video", "queued", MODEL, "32x24")
    assert (video.progress, video.seconds, video.error) == (0, "2.125", None)
    assert isinstance(video.created_at, int) and video.prompt == "a red circle"
    video = finished(client, video)
    assert video.progress == 100 and video.completed_at >= video.created_at
    content = client.videos.download_content(video.id).read()
    assert content[4:8] == b"ftyp"
    for variant in ("thumbnail", "spritesheet"):
        picture = client.videos.download_content(video.id, variant=variant)
        assert picture.response.headers["content-type"] == "image/png"
        assert picture.read()[:4] == b"\x89PNG"


def test_the_same_seed_gives_the_same_bytes(client):
    first, second = create(client), create(client)
    other = create(client, seed=43)
    sums = [finished(client, video).sha256 for video in (first, second, other)]
    assert sums[0] == sums[1] != sums[2]


def test_create_and_poll(client):
    video = client.videos.create_and_poll(
        model=MODEL, prompt="a blue square", seconds="2", size="32x24", extra_body={"steps": 2}, poll_interval_ms=50
    )
    assert (video.status, video.seconds) == ("completed", "2")


def test_our_settings_arrive(client):
    settings = {"seed": 7, "steps": 4, "cfg_scale": 2.5, "lpl": True, "tdtm": "2,keep-last", "fps": 12, "frames": 18,
                "priority": 3, "aesthetic_score": 5.5, "metadata": {"shot": "1"}}
    video = client.videos.create(prompt="a red circle", size="32x24", extra_body=settings)
    found = video.settings
    assert found["seed"] == 7 and found["steps"] == 4 and found["cfg_scale"] == 2.5 and found["lpl"] == "dynamic"
    assert found["tdtm"] == "2,keep-last" and found["fps"] == 12 and found["frames"] == 18 and found["priority"] == 3
    assert found["aesthetic_score"] == 5.5 and video.metadata == {"shot": "1"}
    finished(client, video)
    # What a video was made with makes it again.
    again = client.videos.create(prompt=video.prompt, size=video.size, extra_body=found)
    assert finished(client, again).sha256 == client.videos.retrieve(video.id).sha256


def test_lists_go_page_by_page(client):
    created = [create(client, steps=2).id for _ in range(3)]
    seen = [video.id for video in client.videos.list(limit=2, order="asc")]
    assert seen[-3:] == created and len(set(seen)) == len(seen)
    assert next(iter(client.videos.list(limit=1))).id == created[-1]
    page = client.videos.list(limit=1)
    assert page.has_more and page.first_id == page.last_id == created[-1]


def test_delete(client):
    video = create(client)
    gone = client.videos.delete(video.id)
    assert (gone.id, gone.deleted, gone.object) == (video.id, True, "video.deleted")
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(video.id)


def test_remix(client):
    first = create(client)
    video = client.videos.remix(first.id, prompt="a green circle")
    assert video.remixed_from_video_id == first.id and video.prompt == "a green circle"
    assert video.settings == client.videos.retrieve(first.id).settings
    finished(client, video)


def test_cancelled_videos_end_polling(client, server):
    video = create(client, steps=200)
    status, told = server.call("POST", f"/v1/videos/{video.id}/cancel")
    assert status == 200 and told["status"] == "failed"
    video = client.videos.poll(video.id, poll_interval_ms=50)
    assert video.status == "failed" and video.error.code == "cancelled"
    with pytest.raises(openai.NotFoundError):
        client.videos.download_content(video.id)


def test_models(client):
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).object == "model"


@pytest.mark.parametrize("wrong, param", [
    ({"size": "64"}, "size"),
    ({"size": "99999x99999"}, "size"),
    ({"seconds": "soon"}, "seconds"),
    ({"seconds": "1e300"}, "seconds"),
    ({"prompt": " "}, "prompt"),
    ({"prompt": "x" * 5000}, "prompt"),
    ({"extra_body": {"steps": 0}}, "steps"),
    ({"extra_body": {"steps": "many"}}, "steps"),
    ({"extra_body": {"step": 3}}, "step"),
    ({"extra_body": {"seed": -1}}, "seed"),
    ({"extra_body": {"cfg_scale": "nan"}}, "cfg_scale"),
    ({"extra_body": {"negative_prompt": "x" * 5000}}, "negative_prompt"),
    ({"input_reference": ("a.png", io.BytesIO(b"\x89PNG"), "image/png")}, "input_reference"),
])
def test_bad_input_is_told(client, wrong, param):
    with pytest.raises(openai.BadRequestError) as refused:
        client.videos.create(**{"prompt": "a red circle", **wrong})
    assert refused.value.param == param and refused.value.type == "invalid_request_error"
    assert refused.value.body["message"]


def test_unknown_models_are_not_found(client):
    with pytest.raises(openai.NotFoundError) as refused:
        client.videos.create(prompt="a red circle", model="sora-9")
    assert refused.value.code == "model_not_found" and refused.value.param == "model"


def test_keys_are_needed_and_keep_videos_apart(tmp_path, key_file):
    with SoraServer(tmp_path / "data", "--api-key-file", str(key_file), "--model-name", "sora-2") as server:
        clients = [
            openai.OpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0)
            for key in ("sk-first-key-0123456789", "sk-second-key-0123456789", "sk-unknown-key-0123456789")
        ]
        first, second, unknown = clients
        video = create(first, steps=2)
        assert finished(first, video).id in [found.id for found in first.videos.list()]
        assert second.videos.list().data == []
        for call in (second.videos.retrieve, second.videos.delete, second.videos.download_content):
            with pytest.raises(openai.NotFoundError):
                call(video.id)
        with pytest.raises(openai.AuthenticationError):
            unknown.videos.list()
        assert second.videos.create(prompt="a dot", model="sora-2", size="32x24", extra_body=EXTRA).status == "queued"
        assert server.call("GET", "/metrics")[0] == 401 and server.call("GET", "/healthz")[0] == 200


def test_a_full_queue_is_told_and_tried_again(tmp_path):
    with SoraServer(tmp_path / "data", "--max-queue", "1") as server:
        with openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=0) as client:
            with pytest.raises(openai.InternalServerError) as refused:
                for _ in range(12):
                    create(client, steps=200)
            assert refused.value.status_code == 503 and refused.value.response.headers["retry-after"]
            assert refused.value.code == "queue_full"


def test_progress_is_streamed_to_many(client, server):
    import urllib.request

    video = create(client, steps=40)
    ends = []

    def follow():
        with urllib.request.urlopen(f"{server.url}/v1/videos/{video.id}/events") as stream:
            ends.append([line.decode().strip() for line in stream if line.startswith(b"event:")])

    followers = [threading.Thread(target=follow) for _ in range(5)]
    for follower in followers:
        follower.start()
    for follower in followers:
        follower.join()
    for events in ends:
        assert events[0] == "event: progress" and events[-1] == "event: completed" and len(events) > 2
        assert set(events[:-1]) == {"event: progress"}
    # Who comes late, or again, is told the state and the end.
    follow()
    assert ends[-1] == ["event: progress", "event: completed"]
