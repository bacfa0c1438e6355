"""Fetches videos behind links: YouTube and every other site that yt-dlp reads.

links           links and clips, from arguments and link files
options         what applies to every link: height, filters, limits
batch           many links at once: each one fetched once, some workers, polite to the site
session         one site through yt-dlp: what is behind a link, and its bytes
video_info      what a site says about a link
download        one video or clip: fetched, measured, named, recorded
ffmpeg          clips, cut to the frame
ffmpeg_relay    how ffmpeg reads from the network: only through us
network_policy  yt-dlp, whose every request is checked
throttle        waits: when a site asks for it, between two videos, below a rate
ytdlp_errors    yt-dlp's exceptions as failures
failures        why a link failed, and what to do about it
archive         what was fetched before
"""
