"""What keeps the light away: a depth map seen from the key light, and how open each part of a head is to the room."""

from functools import lru_cache
from typing import Any

import numpy as np

from pipeline.research.corpus.mesh import SKIN, Mesh

REACH = 1.35
"""Half of the side of the depth map, and half of its depth, in head sizes around the origin of a head."""

_SIDE, _AO_SIDE = 320, 192
_DIRECTIONS = 72

VERTEX = """
#version 330
uniform mat3 light_axes;
uniform mat3 turn;
uniform vec3 pivot;
uniform vec3 moved;
in vec3 position;
void main() {
    vec3 q = light_axes * (turn * (position - pivot) + pivot + moved) / 1.35;
    gl_Position = vec4(q.xy, -q.z, 1.0);
}
"""

FRAGMENT = """
#version 330
void main() {}
"""


def axes(direction: np.ndarray) -> np.ndarray:
    """(3,3): rows to the right, up and towards a light in this direction (length 1)."""
    right = np.cross((0.0, 1.0, 0.0) if abs(direction[1]) < 0.95 else (0.0, 0.0, -1.0), direction)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(direction, right), direction]).astype(np.float32)


def depth_map(gl: Any, side: int = _SIDE) -> tuple[Any, Any]:
    """A depth texture that compares, and the framebuffer that draws it."""
    texture = gl.depth_texture((side, side))
    texture.compare_func = "<="
    texture.repeat_x = texture.repeat_y = False
    return texture, gl.framebuffer(depth_attachment=texture)


def program(gl: Any) -> Any:
    """The program that draws depth maps."""
    made = gl.program(vertex_shader=VERTEX, fragment_shader=FRAGMENT)
    made["turn"].write(np.eye(3, dtype=np.float32).tobytes())
    return made


@lru_cache(maxsize=1)
def openness_to_room(mesh: Mesh, gl: Any) -> np.ndarray:
    """(V,) float32: the share of the sky that each vertex of the average head sees, weighted by the cosine.

    It is 1 for the eyeballs and the tongue. Depth maps from many directions say what hides what.
    """
    made = program(gl)
    texture = gl.depth_texture((_AO_SIDE, _AO_SIDE))
    target = gl.framebuffer(depth_attachment=texture)
    triangles = mesh.triangles[mesh.part[mesh.triangles[:, 0]] == SKIN]
    points = gl.buffer(mesh.vertices.astype(np.float32).tobytes())
    drawn = gl.vertex_array(made, [(points, "3f", "position")], gl.buffer(triangles.astype(np.int32).tobytes()))
    a, b, c = (mesh.vertices[triangles[:, i]] for i in range(3))
    normals = np.zeros_like(mesh.vertices)
    np.add.at(normals, triangles, np.cross(b - a, c - a)[:, None])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    number = np.arange(_DIRECTIONS) + 0.5
    height, turn = 1 - 2 * number / _DIRECTIONS, number * np.pi * (1 + 5**0.5)
    radius = np.sqrt(1 - height**2)
    seen, whole = np.zeros((2, len(mesh.vertices)))
    lifted = mesh.vertices + 0.015 * normals
    target.use()
    gl.enable_only(gl.DEPTH_TEST)
    for direction in np.stack([radius * np.cos(turn), height, radius * np.sin(turn)], axis=1):
        made["light_axes"].write(np.ascontiguousarray(axes(direction).T).tobytes())
        target.clear()
        drawn.render()
        depth = np.frombuffer(texture.read(alignment=1), np.float32).reshape(_AO_SIDE, _AO_SIDE)
        place = (lifted @ axes(direction).T / REACH * (1, 1, -1) + 1) / 2
        column, row = (place[:, :2] * _AO_SIDE).astype(int).clip(0, _AO_SIDE - 1).T
        weight = (normals @ direction).clip(0, None)
        seen += weight * (place[:, 2] <= depth[row, column] + 0.006)
        whole += weight
    return np.where(mesh.part == SKIN, seen / np.maximum(whole, 1e-9), 1.0).astype(np.float32)
