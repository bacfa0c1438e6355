"""Links to video files, with where they come from: YouTube first, and whatever else yt-dlp reads. The only network.

links         what is asked for: links, ranges, files of links
wanted        what is wanted of each: the options
addresses     which hosts may be contacted
guard         yt-dlp with one way to the network, where each address is looked at
session       the site: what is behind a link, and its bytes
found         what a site tells
failures      why something did not come, and what to do about it
resuming      whether a file that was begun is still the site's file
patience      waiting: as a site asks, between two videos, below a rate
relay         how ffmpeg reads from the network: only through us
cutting       ffmpeg, and clips to the frame
one_file      one video or clip: fetched, measured, named, noted
archive       what was fetched before
outcomes      what became of a link
fetching      many links: several at once, none twice, politely
"""
