"""One sentence by espeak-ng, in its own process: `pipeline.research.corpus.voice` runs this file as a program.

espeak-ng is one global object, and what it says depends, in the last digits and sometimes in the length, on what it
said before: the state of its noise and of its filters even survives a restart of the library. Each sentence therefore
gets a new process (10 ms), which may also crash without harm. Only the standard library is used, so that it starts at
once.

    stdin   JSON: library, data (paths), text, voice, rate, pitch, range, seed
    stdout  a line of JSON: rate (Hz), events [[symbol, ms], ...]; then the samples, int16
    exit    2 if espeak-ng has no such voice or data; 3 if it could not speak

With `clauses` (a list of texts) instead of `text`, rate, pitch and range, it does not speak: stdout is a JSON list with
the phonemes of each clause in IPA, words separated by spaces and phonemes by `SEPARATOR`.
"""

import ctypes
import json
import sys
from typing import Any

SYNCHRONOUS = 2  # give the sound to the callback, and return when all of it was given
PHONEME_EVENTS, IPA, NO_EXIT = 0x1, 0x2, 0x8000
UTF8 = 1
PHONEME = 7  # type of an event
RATE, PITCH, RANGE = 1, 3, 4  # parameters
SEPARATOR = "_"
IPA_TEXT = 0x02 | ord(SEPARATOR) << 8  # phoneme mode of `espeak_TextToPhonemes`


class Event(ctypes.Structure):
    """`espeak_EVENT`; a list of them ends with one of type 0."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("message", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("symbol", ctypes.c_ubyte * 8),  # without a zero where it takes all eight
    )


Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))


def main() -> int:
    """Speak the text on stdin."""
    asked: dict[str, Any] = json.load(sys.stdin.buffer)
    library = ctypes.CDLL(asked["library"])
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, asked["data"].encode(), PHONEME_EVENTS | IPA | NO_EXIT)
    if rate <= 0 or library.espeak_SetVoiceByName(asked["voice"].encode()):
        return 2
    if "clauses" in asked:
        json.dump([_spelled(library, clause) for clause in asked["clauses"]], sys.stdout)
        return 0
    sound: list[bytes] = []
    events: list[tuple[str, int]] = []

    def take(wave: Any, samples: int, found: Any) -> int:
        if wave and samples:
            sound.append(ctypes.string_at(wave, 2 * samples))
        i = 0
        while found[i].type:
            if found[i].type == PHONEME:
                symbol = bytes(found[i].symbol).split(b"\0")[0].decode("utf-8", "ignore")
                events.append((symbol, found[i].milliseconds))
            i += 1
        return 0

    callback = Callback(take)  # must live as long as it may be called
    library.espeak_SetSynthCallback(callback)
    for parameter, name in ((RATE, "rate"), (PITCH, "pitch"), (RANGE, "range")):
        library.espeak_SetParameter(parameter, asked[name], 0)
    # Breath is random, by two generators, which the library seeds with the time.
    library.espeak_ng_SetRandSeed(ctypes.c_long(asked["seed"]))
    ctypes.CDLL(None).srand(asked["seed"])
    text = asked["text"].encode() + b"\0"
    if library.espeak_Synth(text, ctypes.c_size_t(len(text)), 0, 1, 0, UTF8, None, None) or not sound:
        return 3
    sys.stdout.buffer.write(json.dumps({"rate": rate, "events": events}).encode() + b"\n" + b"".join(sound))
    sys.stdout.buffer.flush()
    return 0


def _spelled(library: ctypes.CDLL, clause: str) -> str:
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    buffer = ctypes.create_string_buffer(clause.encode())
    rest, found = ctypes.c_void_p(ctypes.addressof(buffer)), []
    while rest.value:  # it takes a part at a time, and moves the pointer
        found.append(library.espeak_TextToPhonemes(ctypes.byref(rest), UTF8, IPA_TEXT).decode())
    return " ".join(found)


if __name__ == "__main__":
    sys.exit(main())
