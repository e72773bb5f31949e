"""Moves the formants of a voice without its pitch: another length of the vocal tract, as another speaker has.

The spectral envelope of each short frame is its cepstrum without the periods of the voice (Oppenheim and Schafer 1989);
the spectrum is multiplied by the ratio of the moved envelope to the envelope.
"""

import torch
from torch import Tensor

WINDOW, HOP = 512, 128
"""Samples at 16 kHz: 32 ms and 8 ms."""
QUEFRENCIES = 28
"""Cepstral coefficients of the envelope: up to 1.75 ms, which is below the period of voices up to 500 Hz."""
FLOOR = 1e-4
"""Smallest magnitude, relative to the largest of the wave."""
MOST_GAIN = 3.0
"""Largest change of a bin, as a natural logarithm (26 dB)."""


def moved_formants(waves: Tensor, factors: Tensor) -> Tensor:
    """Waves (B,n) at 16 kHz with all formants multiplied by the factors (B,): above 1 a shorter vocal tract.

    The length stays the same, and so does the loudness (RMS).
    """
    spectra = spectrogram(waves)  # (B,F,T)
    magnitude = spectra.abs()
    log = magnitude.clamp_min(FLOOR * magnitude.amax((1, 2), keepdim=True).clamp_min(1e-9)).log()
    cepstrum = torch.fft.irfft(log, n=WINDOW, dim=1)
    cepstrum[:, QUEFRENCIES : WINDOW - QUEFRENCIES + 1] = 0
    envelope = torch.fft.rfft(cepstrum, dim=1).real
    bins = torch.arange(envelope.shape[1])
    places = (bins / factors[:, None]).clamp(max=len(bins) - 1.0)  # (B,F)
    below = places.long().clamp(max=len(bins) - 2)
    rows = torch.arange(len(waves))[:, None]
    weight = (places - below)[..., None]
    moved = torch.lerp(envelope[rows, below], envelope[rows, below + 1], weight)
    found = waveform(spectra * (moved - envelope).clamp(-MOST_GAIN, MOST_GAIN).exp(), waves.shape[1])
    loudness = waves.square().mean(1, keepdim=True).sqrt()
    return found * (loudness / found.square().mean(1, keepdim=True).sqrt().clamp_min(1e-9))


def spectrogram(waves: Tensor) -> Tensor:
    """(B,n) -> complex (B,WINDOW/2+1,T), from which `waveform` makes the same wave."""
    return torch.stft(waves, WINDOW, HOP, window=torch.hann_window(WINDOW), return_complex=True)


def waveform(spectra: Tensor, samples: int) -> Tensor:
    """Inverse of `spectrogram` for waves of this length."""
    return torch.istft(spectra, WINDOW, HOP, window=torch.hann_window(WINDOW), length=samples)
