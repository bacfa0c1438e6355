"""Why links fail: each reason with its advice, and without effect on other links; addresses that are refused."""

# ruff: noqa: F401, F811 - fixtures are imported, and named again as arguments

import errno
import json
import logging
import os
import socket
import subprocess
import threading
import urllib.error
import urllib.request

import pytest
from builders import load
from fetching import (
    YOUTUBE,
    digest,
    elsewhere,
    needs_ffmpeg,
    only_loopback,
    said,
    site,
    tube,
    tube_video,
    video,
    waits,
    write_hls,
)
from typer.testing import CliRunner

from curate.commands.doctor import doctor
from curate.commands.fetch_youtube import REMAINING, fetch_youtube
from curate.sources import hosts
from curate.sources.youtube import batch, download, network_policy, session
from curate.sources.youtube.failures import Failure, explain, fail
from curate.sources.youtube.ffmpeg_relay import Upstream, open_relay
from curate.sources.youtube.links import collect_requests
from curate.sources.youtube.throttle import StoppedError

LATER = {"Retry-After": "7"}


def fetch(dataset, *urls, **options):
    """Fetch from this machine."""
    return fetch_youtube(dataset, urls, **{"allow_private": True, **options})


def reasons(result):
    """The reasons of all failures."""
    return [one.reason for one in result.failed]


# ---------------------------------------------------------------------- what sites say


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Sign in to confirm you’re not a bot. Use --cookies-from-browser or --cookies for …", "bot_check"),
        ("Sign in to confirm you're not a bot", "bot_check"),
        ("Please wait. YouTube is requiring a captcha challenge before playback", "bot_check"),
        ("This content isn't available, try again later. The current session has been rate-limited", "rate_limited"),
        ("Sign in to confirm your age. This video may be inappropriate for some users.", "age"),
        ("This video is age-restricted and only available on YouTube", "age"),
        ("Private video. Sign in if you've been granted access to this video", "private"),
        ("This video is private", "private"),
        ("Join this channel to get access to members-only content like this video", "private"),
        ("This video is available to this channel's members on level: Gold", "private"),
        ("The playlist is private", "private"),
        ("This video requires payment to watch", "private"),
        ("This video is only available for registered users", "private"),
        ("The uploader has not made this video available in your country", "geo"),
        ("This video is not available from your location due to geo restriction", "geo"),
        ("This video is DRM protected", "drm"),
        ("This live event will begin in 3 hours.", "live"),
        ("Premieres in 20 minutes", "live"),
        ("This live stream recording is not available.", "live"),
        ("The channel is not currently live", "live"),
        ("Video unavailable. This video has been removed by the uploader", "not_found"),
        ("Video unavailable", "not_found"),
        ("This video is not available", "not_found"),
        ("This video isn't available anymore", "not_found"),
        ("This video has been removed for violating YouTube's Terms of Service", "not_found"),
        ("This video is no longer available because the account has been terminated", "not_found"),
        ("Incomplete YouTube ID abc. URL https://… looks truncated.", "not_found"),
        ("The playlist does not exist", "not_found"),
        ("Requested format is not available. Use --list-formats for a list of available formats", "no_format"),
        ("No video formats found!", "no_format"),
        ("Unsupported URL: https://example.org/", "unsupported"),
        ("Something new", "other"),
    ],
)
def test_messages(text, reason):
    """The message of the site or of yt-dlp determines the reason."""
    assert explain(text).reason == reason


@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, "private"), (403, "forbidden"), (404, "not_found"), (410, "gone"), (429, "rate_limited"), (451, "geo"),
     (500, "other"), (503, "other")],
)  # fmt: skip
def test_statuses(status, reason):
    """The HTTP status determines the reason where the message does not."""
    assert explain(f"Unable to download webpage: HTTP Error {status}: Nope", status=status).reason == reason


@pytest.mark.parametrize(
    ("answer", "reason", "advice"),
    [
        (said("Sign in to confirm you’re not a bot"), "bot_check", "--cookies"),
        (said("Sign in to confirm your age"), "age", "--cookies"),
        (said("Private video"), "private", "remove the link"),
        (said("Join this channel to get access to members-only content"), "private", "remove the link"),
        (said("This video is DRM protected"), "drm", "cannot be fetched"),
        (said("This live event will begin in 3 hours."), "live", "run again"),
        (said("Video unavailable. This video has been removed by the uploader"), "not_found", "remove the link"),
        (elsewhere("DE", "AT"), "geo", "only in DE, AT"),
        (elsewhere(), "geo", "country"),
        (ValueError("a fault of the extractor"), "other", "yt-dlp"),
    ],
)
def test_answers_of_youtube(dataset, tube, answer, reason, advice):
    """Each answer of YouTube has its reason and advice."""
    tube["abc"] = answer
    (failed,) = fetch(dataset, YOUTUBE + "abc").failed
    assert (failed.url, failed.reason) == (YOUTUBE + "abc", reason)
    assert advice in failed.advice


@pytest.mark.parametrize("told", [{"is_live": True}, {"live_status": "is_live"}, {"live_status": "is_upcoming"}])
def test_live(dataset, site, tube, told):
    """Live videos are not fetched, and their media not requested."""
    tube["abc"] = tube_video(site, **told)
    assert reasons(fetch(dataset, YOUTUBE + "abc")) == ["live"]
    assert site.requests == []


def test_encrypted_formats(dataset, site, tube):
    """A video with only encrypted formats has the reason drm."""
    tube["abc"] = tube_video(site)
    tube["abc"]["formats"][0]["has_drm"] = True
    assert reasons(fetch(dataset, YOUTUBE + "abc")) == ["drm"]


@pytest.mark.parametrize("protocol", ["rtmp", "rtmp_ffmpeg", "websocket_frag", "youtube_live_chat"])
def test_protocols_for_which_programs_are_started(dataset, site, tube, monkeypatch, protocol):
    """yt-dlp starts no program, which would reach any host, whatever a site says about a format."""
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    tube["abc"] = tube_video(site)
    tube["abc"]["formats"][0]["protocol"] = protocol
    (failed,) = fetch(dataset, YOUTUBE + "abc").failed
    assert (failed.reason, f"the protocol {protocol} is not supported" in failed.advice) == ("unsupported", True)
    assert site.requests == []


def test_what_is_learnt_about_players(dataset, tmp_path, site, tube, video, monkeypatch):
    """Programs of players are kept in the user's cache, and never read from the dataset."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    real, folders = session.open_downloader, []

    def open_downloader(parameters, allow_private):
        folders.append(parameters["cachedir"])
        return real(parameters, allow_private)

    monkeypatch.setattr(session, "open_downloader", open_downloader)
    site.files["/street.mp4"] = video
    tube["abc"] = tube_video(site)
    fetch(dataset, YOUTUBE + "abc", workers=1)
    assert folders == [str(tmp_path / "cache" / "curate" / "yt-dlp")]


def test_available_heights(dataset, site, tube):
    """If every format is too high, the message lists the heights."""
    tube["abc"] = tube_video(site, heights=(480, 1080))
    (failed,) = fetch(dataset, YOUTUBE + "abc", max_height=240).failed
    assert (failed.reason, "480, 1080" in failed.advice) == ("no_format", True)


# ---------------------------------------------------------------------- what servers answer


@pytest.mark.parametrize(("status", "reason"), [(404, "not_found"), (403, "forbidden"), (410, "gone")])
def test_pages_that_refuse(dataset, site, status, reason):
    """The status of a page determines the reason."""
    site.always["/street.mp4"] = (status, {})
    assert reasons(fetch(dataset, site.url("/street.mp4"))) == [reason]


@pytest.mark.parametrize("status", [403, 410])
def test_expired_media_url(dataset, site, tube, video, status):
    """After an expired media URL the site is asked once more."""
    site.files["/street.mp4"] = video
    site.answers["/old.mp4"] = [(status, {})]
    tube["abc"] = [tube_video(site, "/old.mp4"), tube_video(site)]
    assert len(fetch(dataset, YOUTUBE + "abc").fetched) == 1


@needs_ffmpeg
def test_expired_media_url_of_a_clip(dataset, site, tube, video):
    """The same where ffmpeg reads."""
    site.files["/street.mp4"] = video
    site.always["/old.mp4"] = (403, {})
    tube["abc"] = [tube_video(site, "/old.mp4"), tube_video(site)]
    assert len(fetch(dataset, YOUTUBE + "abc", clip=["1-2"]).fetched) == 1


@pytest.mark.parametrize("clip", [(), pytest.param(("1-2",), marks=needs_ffmpeg)])
@pytest.mark.parametrize(("status", "reason"), [(403, "forbidden"), (410, "gone"), (404, "not_found")])
def test_media_that_refuse(dataset, site, tube, clip, status, reason):
    """Media that are refused again have the reason of their status; 403 and 410 after one more look-up."""
    site.always["/street.mp4"] = (status, {})
    tube["abc"] = tube_video(site)
    (failed,) = fetch(dataset, YOUTUBE + "abc", clip=clip).failed
    assert (failed.reason, len(tube["asked"])) == (reason, 1 if status == 404 else 2)


@pytest.mark.parametrize("status", [403, 410])
def test_refused_once(dataset, site, video, status):
    """A page that refuses once is asked again."""
    site.files["/street.mp4"] = video
    site.answers["/street.mp4"] = [(status, {})]
    assert len(fetch(dataset, site.url("/street.mp4")).fetched) == 1


@pytest.mark.parametrize(
    ("target", "reason"),
    [("file:///etc/passwd", "refused_address"), ("/street.mp4", "other"), ("gopher://a", "refused_address")],
)
def test_invalid_redirects(dataset, site, target, reason):
    """A redirect away from http is a refused address, a loop is the site's error."""
    site.always["/street.mp4"] = (302, {"Location": target})
    (failed,) = fetch(dataset, site.url("/street.mp4")).failed
    assert (failed.reason, "yt-dlp" in failed.advice) == (reason, False)


def test_empty_file(dataset, site, tube):
    """An empty file is the site's error."""
    site.files["/street.mp4"] = b""
    tube["abc"] = tube_video(site)
    (failed,) = fetch(dataset, YOUTUBE + "abc").failed
    assert (failed.reason, "sent no data" in failed.advice) == ("other", True)


@needs_ffmpeg
@pytest.mark.parametrize("clip", [(), ("1-2",)])
@pytest.mark.parametrize(
    ("kind", "reason", "advice"), [("cut", "other", "damaged or truncated"), ("text", "unsupported", "Give the URL")]
)
def test_broken_file(dataset, site, tube, video, clip, kind, reason, advice):
    """An unreadable file has the same message for the whole and for a clip, without our file names."""
    site.files["/street.mp4"] = video[: len(video) // 2] if kind == "cut" else b"this is no video" * 999
    tube["abc"] = tube_video(site)
    (failed,) = fetch(dataset, YOUTUBE + "abc", clip=clip).failed
    assert (failed.reason, advice in failed.advice) == (reason, True)
    assert not any(word in failed.advice for word in (".partial", "127.0.0.1", "file:"))


@needs_ffmpeg
def test_broken_clip_costs_no_download(dataset, site, tube, video):
    """If ffmpeg fails on a clip, the whole file is not downloaded."""
    site.files["/street.mp4"] = video[: len(video) // 2]
    tube["abc"] = tube_video(site)
    fetch(dataset, YOUTUBE + "abc", clip=["1-2"])
    assert None not in site.asked("/street.mp4")  # a download has no range


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS])
def test_full_disk(dataset, site, tube, monkeypatch, code):
    """A full disk stops the batch, with advice; all links remain for the next run."""

    def full(*_):
        raise OSError(code, os.strerror(code), "somewhere/a.part")

    monkeypatch.setattr(session.GuardedYoutubeDL, "dl", full)
    tube |= {"one": tube_video(site), "two": tube_video(site)}
    result = fetch(dataset, YOUTUBE + "one", YOUTUBE + "two", workers=1)
    assert result.failed[0].advice.startswith(f"{dataset}/media/videos: the disk is full: ")
    assert "Free some space" in result.failed[0].advice
    assert [one.reason for one in result.skipped] == ["not tried: the batch stopped at a full disk"]
    assert (dataset / REMAINING).read_text().splitlines()[1:] == [YOUTUBE + "one", YOUTUBE + "two"]


def test_unexpected_error_in_a_worker(dataset, site, video, monkeypatch):
    """An unexpected error is the outcome of its link, and the other links are fetched."""
    real = session.Session.look_up_entry

    def look_up_entry(self, entry):
        if "bad" in entry.link:
            raise SystemExit(3)
        return real(self, entry)

    monkeypatch.setattr(session.Session, "look_up_entry", look_up_entry)
    site.files["/street.mp4"] = video
    result = fetch(dataset, site.url("/bad.mp4"), site.url("/street.mp4"), workers=1)
    assert (reasons(result), len(result.fetched)) == (["other"], 1)


def test_stop_in_the_relay(monkeypatch):
    """A stop while ffmpeg reads ends the request without a traceback."""
    escaped = []
    monkeypatch.setattr(threading, "excepthook", escaped.append)

    def ask(*_):
        raise StoppedError

    upstream = Upstream(ask, lambda _: False, None, lambda _: None, lambda _: None)
    with open_relay(upstream) as relay, pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(relay.url_for("https://example.org/a.mp4"))
    assert escaped == []


def test_file_names_are_not_capitalised():
    """The message is repeated unchanged."""
    assert str(Failure("other", "Do it.", "a.mp4 is there")) == "a.mp4 is there. Do it."


def test_messages_for_the_log_contain_no_credentials():
    """URLs in messages of yt-dlp lose their secrets."""
    error = fail("other", "GET https://me:pw@example.org/a.mp4?sig=s3cret&x=1 failed")
    assert str(error) == "other: GET https://***@example.org/a.mp4?sig=***&x=1 failed"


def test_waiting_is_reported(dataset, site, tube, video, waits):
    """Progress has the reason of a wait."""
    site.files["/street.mp4"] = video
    site.answers["/street.mp4"] = [(429, LATER)]
    tube["abc"] = tube_video(site)
    notes = []
    fetch(dataset, YOUTUBE + "abc", progress=lambda task, done, total, note="": notes.append(note))
    assert "the site asks to wait 7 s" in notes


def test_retry_after(dataset, site, tube, video, waits):
    """After 429 with Retry-After the request is repeated after that time."""
    site.files["/street.mp4"] = video
    site.answers["/street.mp4"] = [(429, LATER)]
    tube["abc"] = tube_video(site)
    assert len(fetch(dataset, YOUTUBE + "abc").fetched) == 1
    assert waits == [7.0]


def test_retries_are_logged(dataset, site, tube, video, waits, caplog):
    """Each retry is logged with attempt, cause and wait; queries of media URLs are not."""
    caplog.set_level(logging.INFO, "curate")
    site.files["/street.mp4"] = video
    site.answers["/street.mp4?sig=s3cret"] = [(429, LATER)]
    tube["abc"] = tube_video(site, "/street.mp4?sig=s3cret")
    fetch(dataset, YOUTUBE + "abc")
    assert f"{YOUTUBE}abc: asking the site" in caplog.messages
    assert "attempt 1 failed: rate_limited: HTTP Error 429: Too Many Requests; next attempt in 7 s" in caplog.messages
    assert [message for message in caplog.messages if message.startswith("abc: finished")]
    assert "s3cret" not in caplog.text


def test_waits_double(dataset, site, tube, video, waits):
    """After 429 without Retry-After the waits are 5, 10 and 20 s."""
    site.files["/street.mp4"] = video
    site.answers["/street.mp4"] = [(429, {})] * 3
    tube["abc"] = tube_video(site)
    assert len(fetch(dataset, YOUTUBE + "abc").fetched) == 1
    assert waits == [5.0, 10.0, 20.0]


def test_long_retry_after(dataset, site, waits):
    """A Retry-After of an hour is a failure."""
    site.always["/street.mp4"] = (429, {"Retry-After": "3600"})
    assert reasons(fetch(dataset, site.url("/street.mp4"))) == ["rate_limited"]
    assert waits == []


@pytest.mark.parametrize("clip", [(), pytest.param(("1-2",), marks=needs_ffmpeg)])
def test_server_error_is_retried(dataset, site, tube, video, waits, clip):
    """503 is retried."""
    site.files["/street.mp4"] = video
    site.answers["/street.mp4"] = [(503, {})] * 2
    tube["abc"] = tube_video(site)
    assert len(fetch(dataset, YOUTUBE + "abc", clip=clip).fetched) == 1


def test_lasting_server_error(dataset, site, tube, waits):
    """A permanent 503 is the site's error, with advice."""
    site.always["/street.mp4"] = (503, {})
    tube["abc"] = tube_video(site)
    (failed,) = fetch(dataset, YOUTUBE + "abc").failed
    assert (failed.reason, "internal error" in failed.advice) == ("other", True)


@pytest.mark.parametrize("clip", [(), pytest.param(("1-2",), marks=needs_ffmpeg)])
def test_connection_that_always_breaks(dataset, site, tube, video, waits, clip):
    """A file that never arrives completely fails; the partial file is kept for the next run."""
    site.files["/street.mp4"] = video
    site.cut_after["/street.mp4"] = [100] * 99
    tube["abc"] = tube_video(site)
    assert reasons(fetch(dataset, YOUTUBE + "abc", clip=clip)) == ["no_network"]
    assert not (dataset / "HEAD").exists()


def test_no_network(dataset, waits):
    """A server that does not exist has the reason no_network."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        link = f"http://127.0.0.1:{free.getsockname()[1]}/street.mp4"
    assert reasons(fetch(dataset, link)) == ["no_network"]


@pytest.mark.parametrize(
    ("path", "data"), [("/page.html", b"<html><p>nothing here</p></html>"), ("/no.mp4", b"this is no video" * 99)]
)
def test_no_video(dataset, site, path, data):
    """A page without a video, and a file that is not one, have the reason unsupported."""
    site.files[path] = data
    assert reasons(fetch(dataset, site.url(path))) == ["unsupported"]


@pytest.mark.parametrize("link", ["ytsearch:cats", "dQw4w9WgXcQ", "example.org/video", "cats"])
def test_no_link(dataset, link):
    """Searches, bare IDs and words are not links."""
    assert reasons(fetch(dataset, link)) == ["unsupported"]


def test_stream_without_ffmpeg(dataset, tmp_path, site, video, monkeypatch):
    """An HLS stream without ffmpeg fails with advice; the next link is fetched."""
    (tmp_path / "street.mp4").write_bytes(video)
    for file in write_hls(tmp_path / "street.mp4", tmp_path / "hls").parent.iterdir():
        site.files[f"/hls/{file.name}"] = file.read_bytes()
    site.files["/street.mp4"] = video
    monkeypatch.setattr(download, "find_ffmpeg", lambda: None)
    result = fetch(dataset, site.url("/hls/list.m3u8"), site.url("/street.mp4"))
    assert (reasons(result), len(result.fetched)) == (["no_ffmpeg"], 1)
    assert "apt install ffmpeg" in result.failed[0].advice


@needs_ffmpeg
@pytest.mark.parametrize("clip", [(), ("1-7",)])
def test_missing_segment(dataset, tmp_path, site, video, waits, clip):
    """A stream with a missing segment fails."""
    (tmp_path / "street.mp4").write_bytes(video)
    for file in write_hls(tmp_path / "street.mp4", tmp_path / "hls").parent.iterdir():
        site.files[f"/hls/{file.name}"] = file.read_bytes()
    del site.files["/hls/list2.ts"]
    assert reasons(fetch(dataset, site.url("/hls/list.m3u8"), clip=clip)) == ["not_found"]


# ---------------------------------------------------------------------- one bad link, and the batch


def test_other_links_are_fetched(dataset, site, tube, video):
    """One bad link does not stop the others."""
    site.files["/street.mp4"] = video
    tube |= {"bad": said("Private video"), "good": tube_video(site)}
    result = fetch(dataset, YOUTUBE + "bad", site.url("/none.mp4"), YOUTUBE + "good", workers=1)
    assert (reasons(result), [one.id for one in result.fetched]) == (["private", "not_found"], ["good"])


@pytest.mark.parametrize(
    "answer", [said("Sign in to confirm you’re not a bot"), said("This content isn't available, try again later")]
)
def test_batch_stops(dataset, site, tube, video, answer):
    """A bot check and a rate limit stop the batch; remaining links are listed for the next run."""
    site.files["/street.mp4"] = video
    tube |= {"one": tube_video(site), "two": answer, "three": tube_video(site), "four": tube_video(site)}
    links = [YOUTUBE + name for name in ("one", "two", "three", "four")]
    result = fetch(dataset, *links, workers=1)
    assert (tube["asked"], len(result.fetched)) == (["one", "two"], 1)
    assert [(one.url, one.reason[:9]) for one in result.skipped] == [(link, "not tried") for link in links[2:]]
    assert (dataset / REMAINING).read_text().splitlines()[1:] == links[1:]


def test_next_run_continues(dataset, site, tube, video):
    """The next run fetches the listed links, and the list is deleted."""
    site.files["/street.mp4"] = video
    tube |= {"one": tube_video(site), "two": [said("not a bot"), tube_video(site)], "three": tube_video(site)}
    fetch(dataset, *(YOUTUBE + name for name in ("one", "two", "three")), workers=1)
    result = fetch(dataset, from_file=dataset / REMAINING)
    assert sorted(one.id for one in result.fetched) == ["three", "two"]
    assert not (dataset / REMAINING).exists()


def test_stopped_playlist(dataset, site, tube, video):
    """The same command again fetches the rest of a playlist, and the list is deleted."""
    site.files["/street.mp4"] = video
    tube |= {"PL1": ["one", "two"], "one": [said("not a bot"), tube_video(site)], "two": tube_video(site)}
    link = "https://www.youtube.com/playlist?list=PL1"
    fetch(dataset, link, workers=1)
    assert (dataset / REMAINING).read_text().splitlines()[1:] == [YOUTUBE + "one", YOUTUBE + "two"]
    assert len(fetch(dataset, link).fetched) == 2
    assert not (dataset / REMAINING).exists()


def test_remaining_entries_are_links(dataset, site, tube):
    """Listed entries of a playlist can be read back: spaces are encoded, bare IDs stand for the playlist."""
    tube |= {"PL1": ["one", "two x", "=three"], "one": said("not a bot")}
    link = "https://www.youtube.com/playlist?list=PL1"
    fetch(dataset, link, workers=1)
    left = [request.link for request in collect_requests([], [], dataset / REMAINING)]
    assert left == [YOUTUBE + "one", YOUTUBE + "two%20x", link]


@pytest.mark.parametrize("answer", [said("Private video"), said("not a bot")])
def test_unreadable_list_stays(dataset, tube, answer):
    """A list with invalid lines is neither deleted nor overwritten."""
    tube["abc"] = answer
    (dataset / REMAINING).parent.mkdir(parents=True)
    (dataset / REMAINING).write_text("https://example.org/a and my own words\n")
    result = fetch(dataset, YOUTUBE + "abc")
    assert (dataset / REMAINING).read_text() == "https://example.org/a and my own words\n"
    assert "It was left as it is" in result.notes[0]


def test_list_survives_other_runs(dataset, site, tube, video):
    """A run for other links keeps the list."""
    site.files["/street.mp4"] = video
    tube |= {"one": said("not a bot"), "two": tube_video(site)}
    fetch(dataset, YOUTUBE + "one", workers=1)
    fetch(dataset, YOUTUBE + "two")
    assert (dataset / REMAINING).read_text().splitlines()[1:] == [YOUTUBE + "one"]


@needs_ffmpeg
@pytest.mark.parametrize("clip", [(), ("1-2",)])
def test_stream_without_end(dataset, tmp_path, site, video, clip):
    """An HLS stream without an end is live."""
    (tmp_path / "street.mp4").write_bytes(video)
    for file in write_hls(tmp_path / "street.mp4", tmp_path / "hls").parent.iterdir():
        site.files[f"/hls/{file.name}"] = file.read_bytes()
    site.files["/hls/list.m3u8"] = site.files["/hls/list.m3u8"].replace(b"#EXT-X-ENDLIST", b"")
    assert reasons(fetch(dataset, site.url("/hls/list.m3u8"), clip=clip)) == ["live"]


def test_stopped_batch_keeps_finished_videos(dataset, site, tube, video):
    """Videos that were fetched before the batch stopped are in the dataset."""
    site.files["/street.mp4"] = video
    tube |= {"one": tube_video(site), "two": said("not a bot")}
    fetch(dataset, YOUTUBE + "one", YOUTUBE + "two", workers=1)
    assert load(dataset).videos["video_id"].tolist() == ["one"]


def test_command_exits_with_1(dataset, site, video):
    """The command prints its document, and exits with 1 if a link failed."""
    from curate.cli.app import app

    site.files["/street.mp4"] = video
    arguments = ["fetch-youtube", str(dataset), "--allow-private", "--json"]
    failing = CliRunner().invoke(app, [*arguments, site.url("/none.mp4"), site.url("/street.mp4")])
    assert (failing.exit_code, json.loads(failing.stdout)["failed"][0]["reason"]) == (1, "not_found")
    assert CliRunner().invoke(app, [*arguments, site.url("/street.mp4")]).exit_code == 0


def test_missing_runtime_is_noted_first(dataset, monkeypatch):
    """The command notes a missing JavaScript runtime before it fetches."""
    from curate.cli.app import app
    from curate.commands import fetch_youtube as step

    monkeypatch.setattr(step, "find_runtimes", dict)
    monkeypatch.setattr(step, "fetch_youtube", lambda *_, **__: 1 / 0)
    told = CliRunner().invoke(app, ["fetch-youtube", str(dataset), YOUTUBE + "dQw4w9WgXcQ"])
    assert "note: No JavaScript runtime" in told.output


def test_table_names_everything(dataset, site, video):
    """The table lists every file, and every link that failed."""
    from rich.console import Console

    from curate.cli.fetch_youtube import fetch_table

    site.files["/street.mp4"] = video
    result = fetch(dataset, site.url("/none.mp4"), site.url("/street.mp4"))
    console = Console(width=400, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(fetch_table(result.to_json()))
    text = console.export_text()
    assert all(word in text for word in (result.fetched[0].path, site.url("/none.mp4"), "not_found"))


# ---------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    "link",
    ["file:///etc/passwd", "http://127.0.0.1/a.mp4", "http://localhost/a.mp4", "http://10.0.0.1/", "http://[::1]/",
     "http://2130706433/", "http://u:p@example.org/a.mp4", "ftp://example.org/a.mp4"],
)  # fmt: skip
def test_refused_links(dataset, link):
    """Links to files and private hosts are refused without a request."""
    assert reasons(fetch(dataset, link, allow_private=False)) == ["refused_address"]


@pytest.fixture
def no_names(monkeypatch):
    """No name resolves, so that tests look up no public site."""
    monkeypatch.setattr(hosts, "_resolve", lambda host, port: [])


def test_media_on_private_hosts(dataset, site, tube, video, no_names):
    """A public page whose media are on a private host is refused."""
    site.files["/street.mp4"] = video
    tube["abc"] = tube_video(site)
    assert reasons(fetch(dataset, YOUTUBE + "abc", allow_private=False)) == ["refused_address"]
    assert site.requests == []


def test_entries_on_private_hosts(dataset, site, tube, video, no_names):
    """A playlist whose entries are on a private host is refused."""
    site.files["/street.mp4"] = video
    tube["PL1"] = ["../../x"]
    result = fetch(dataset, "https://www.youtube.com/playlist?list=PL1", site.url("/street.mp4"), allow_private=False)
    assert "refused_address" in reasons(result)
    assert site.requests == []


@pytest.fixture
def only_numbers(monkeypatch):
    """127.0.0.1 stands for the public internet, localhost for a private host."""

    def find_refusal(link, *, allow_private=False):
        return "localhost names a private host" if "localhost" in link else None

    monkeypatch.setattr(session, "find_refusal", find_refusal)
    monkeypatch.setattr(network_policy, "find_refusal", find_refusal)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects(dataset, site, only_numbers, status):
    """A redirect to a private host is refused before it is followed."""
    site.always["/street.mp4"] = (status, {"Location": site.url("/secret.mp4", "localhost")})
    assert reasons(fetch(dataset, site.url("/street.mp4"))) == ["refused_address"]
    assert set(site.counts()) == {"/street.mp4"}


def test_redirect_to_an_encoded_host(dataset, site, monkeypatch):
    """A redirect to a percent-encoded host is refused, since it is decoded when it is opened."""
    real = network_policy.find_refusal
    monkeypatch.setattr(hosts, "is_public", lambda _: True)
    public = {f"//127.0.0.1:{site.port}/": "//93.184.215.14/"}
    for module in (session, network_policy, batch):
        monkeypatch.setattr(module, "find_refusal", lambda link, **_: real(link.replace(*next(iter(public.items())))))
    site.always["/street.mp4"] = (302, {"Location": site.url("/secret.mp4", "127%2e0%2e0%2e1")})
    assert reasons(fetch(dataset, site.url("/street.mp4"), allow_private=False)) == ["refused_address"]
    assert set(site.counts()) == {"/street.mp4"}


@pytest.mark.parametrize(("address", "allow_private"), [("127.0.0.1", False), ("169.254.169.254", True)])
def test_dns_rebinding(dataset, site, no_names, monkeypatch, address, allow_private):
    """A name whose address is not allowed when it is contacted, though it was before, is not connected to."""
    here = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, site.port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: here)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("something was contacted"))
    link = site.url("/street.mp4", "rebound.example.org")
    assert reasons(fetch(dataset, link, allow_private=allow_private)) == ["refused_address"]


def test_parsed_host_is_checked(monkeypatch):
    """The host that urllib has parsed is checked, not only the URL."""
    seen = []
    monkeypatch.setattr(network_policy, "find_refusal", lambda link, **_: seen.append(link))
    network_policy._CheckEachRequest(False).http_open(urllib.request.Request("http://127%2e0%2e0%2e1/x"))
    assert seen == ["http://127%2e0%2e0%2e1/x", "http://127.0.0.1/"]


@pytest.mark.parametrize("clip", [(), pytest.param(("1-2",), marks=needs_ffmpeg)])
def test_media_redirects(dataset, site, tube, only_numbers, clip):
    """A redirect of media to a private host is refused, also where ffmpeg reads."""
    site.always["/street.mp4"] = (302, {"Location": site.url("/secret.mp4", "localhost")})
    tube["abc"] = tube_video(site)
    assert reasons(fetch(dataset, YOUTUBE + "abc", clip=clip)) == ["refused_address"]
    assert set(site.counts()) == {"/street.mp4"}


@needs_ffmpeg
@pytest.mark.parametrize("clip", [(), ("1-2",)])
@pytest.mark.parametrize("target", ["http://localhost:{port}/secret.ts", "file:///etc/secret.ts"])
def test_playlist_that_names_private_hosts(dataset, site, only_numbers, monkeypatch, clip, target):
    """An HLS playlist with segments on a private host, or in a file, is refused."""
    real = network_policy.find_refusal
    narrow = session.find_refusal
    for module in (session, network_policy):
        monkeypatch.setattr(
            module, "find_refusal", lambda link, **options: real(link, allow_private=True) or narrow(link)
        )
    piece = target.format(port=site.port)
    site.files["/list.m3u8"] = (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{piece}\n#EXTINF:2,\n{piece}\n#EXT-X-ENDLIST\n".encode()
    )
    assert reasons(fetch(dataset, site.url("/list.m3u8"), clip=clip)) == ["refused_address"]
    assert "/secret.ts" not in site.counts()


@needs_ffmpeg
@pytest.mark.parametrize("clip", [(), ("1-2",)])
def test_key_on_a_private_host(dataset, tmp_path, site, video, only_numbers, clip):
    """The key of an encrypted stream is not fetched from a private host, by yt-dlp or ffmpeg."""
    (tmp_path / "street.mp4").write_bytes(video)
    for file in write_hls(tmp_path / "street.mp4", tmp_path / "hls").parent.iterdir():
        site.files[f"/hls/{file.name}"] = file.read_bytes()
    key = f'#EXT-X-KEY:METHOD=SAMPLE-AES,URI="{site.url("/key", "localhost")}"\n#EXTINF'
    site.files["/hls/list.m3u8"] = site.files["/hls/list.m3u8"].replace(b"#EXTINF", key.encode(), 1)
    result = fetch(dataset, site.url("/hls/list.m3u8"), clip=clip)
    assert set(reasons(result)) <= {"unsupported", "refused_address"}
    assert result.fetched == ()
    assert "/key" not in site.counts()


@pytest.mark.parametrize(
    ("runtimes", "is_ok"),
    [({}, False), ({"node": ("20.1.0", False)}, False), ({"node": ("20.1.0", False), "deno": ("2.9.8", True)}, True)],
)
def test_doctor(monkeypatch, runtimes, is_ok):
    """`doctor` reports a missing or old JavaScript runtime, with a remedy."""
    monkeypatch.setattr(session, "find_runtimes", lambda: runtimes)
    (runtime,) = (check for check in doctor().checks if check.name == "JavaScript")
    assert (runtime.ok, bool(runtime.remedy)) == (is_ok, not is_ok)


def test_guard(only_loopback):
    """The tests' guard catches connections and look-ups, and allows this machine."""
    for contact in (
        lambda: socket.create_connection(("192.0.2.1", 80)),
        lambda: socket.getaddrinfo("www.youtube.com", 443),
        lambda: socket.socket().connect(("2001:db8::1", 80)),
    ):
        with pytest.raises(OSError, match="a test contacts"):
            contact()
    assert [name for name, _ in only_loopback] == ["create_connection", "getaddrinfo", "connect"]
    only_loopback.clear()
    assert socket.getaddrinfo("localhost", 80)


def test_allow_private(dataset, site, video):
    """With --allow-private a server on this machine is read."""
    site.files["/street.mp4"] = video
    (one,) = fetch(dataset, site.url("/street.mp4")).fetched
    with open(one.path, "rb") as file:
        assert digest(file.read()) == digest(video)
