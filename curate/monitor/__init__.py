"""Runs a trained model on a video, camera or stream.

session        one watch: its sources, outputs, progress
watch_loop     detect, track, evaluate triggers, pass on
tracker        ByteTrack
trigger_file   rules and actions, from YAML
triggers/      which detections make an event
actions/       what an event starts: lines, webhooks, commands, clips
outputs/       video, table, event log, window, dataset
page/          the page of `--serve`
problems       everything that goes wrong, in one place
detections     the detections of a frame, and which of them count
"""
