"""Which way a surface faces, and how hollow it is."""

import numpy as np
import torch

from pipeline.research.corpus.mesh import SKIN, Mesh


class Normals:
    """Smooth normals: for each vertex the mean of its triangles' normals, weighted by their areas."""

    def __init__(self, mesh: Mesh) -> None:
        self._triangles = torch.from_numpy(mesh.triangles)
        self._corners = self._triangles.T.reshape(-1)
        self._count = len(mesh.vertices)
        self._weights = torch.bincount(self._corners, minlength=self._count).clamp(min=1).float()

    def __call__(self, vertices: np.ndarray) -> np.ndarray:
        """(T,V,3) -> (T,V,3) float32 of length 1."""
        v = torch.from_numpy(np.ascontiguousarray(vertices, np.float32))
        a, b, c = (v[:, self._triangles[:, i]] for i in range(3))
        face = torch.linalg.cross(b - a, c - a)
        total = torch.zeros_like(v).index_add_(1, self._corners, face.repeat(1, 3, 1))
        return torch.nn.functional.normalize(total, dim=2, eps=1e-12).numpy()

    def mean_of_neighbours(self, values: np.ndarray, times: int) -> np.ndarray:
        """(V,n) values, averaged over the triangles around each vertex, `times` times."""
        found = torch.from_numpy(np.ascontiguousarray(values, np.float32))
        for _ in range(times):
            mean = found[self._triangles].mean(1)
            total = torch.zeros_like(found).index_add_(0, self._corners, mean.repeat(3, 1))
            found = total / self._weights[:, None]
        return found.numpy()


def openness(rest: np.ndarray, normals: np.ndarray, smooth: Normals, mesh: Mesh) -> np.ndarray:
    """(V,) how much of the ambient light reaches each vertex.

    A vertex is hollow if the mean of the surface around it is above it. This is a cheap substitute for ambient
    occlusion.
    """
    hollow = np.zeros(len(rest))
    for times, weight in ((3, 9.0), (10, 7.0)):
        hollow += weight * ((smooth.mean_of_neighbours(rest, times) - rest) * normals).sum(1)
    return np.where(mesh.part == SKIN, (1 - hollow.clip(0, None)).clip(0.4, 1.0), 1.0)
