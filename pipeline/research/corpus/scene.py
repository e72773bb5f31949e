"""OpenGL buffers, textures and programs of one person, drawn without a display."""

from functools import lru_cache
from typing import Any

import numpy as np

from pipeline.common.errors import RefusedError
from pipeline.face.crop import SCALE
from pipeline.research.corpus.extras import Extras
from pipeline.research.corpus.head import Head
from pipeline.research.corpus.look import Look, beard_share, hair_height
from pipeline.research.corpus.mesh import LEFT_EYEBALL, RIGHT_EYEBALL, SKIN, TONGUE, Mesh
from pipeline.research.corpus.normals import Normals, openness
from pipeline.research.corpus.shaders import BACKGROUND_FRAGMENT, BACKGROUND_VERTEX, FRAGMENTS, VERTEX
from pipeline.research.corpus.units import ARKIT

DISTANCE = 7.0
"""Distance of the camera in head sizes: about 1.4 m."""

_SAMPLES = 4
_NEAR, _FAR = 3.0, 12.0  # head sizes from the camera
_TWO_SIDED = ("teeth", "throat", "clothes", "curtain", "hair")  # of hair that stands off, the inside is seen
_BEHIND_LIPS = 0.06  # head sizes


class GraphicsError(RefusedError):
    """No OpenGL context could be created on this machine."""

    code = "graphics_missing"


@lru_cache(maxsize=1)
def context() -> Any:
    """The OpenGL context of the process. Raises GraphicsError, which says what to install, if there is none."""
    try:
        import moderngl
    except ImportError as error:
        raise ImportError(
            f"the package {error.name} is missing: install the extra `corpus` (pip install 'floatcast[corpus]')"
        ) from error
    try:
        settings: dict[str, Any] = {"backend": "egl"}
        made = moderngl.create_context(require=330, standalone=True, **settings)
        made.gc_mode = "auto"  # a person's buffers go with the person
        return made
    except Exception as error:  # whatever the loader and the driver raise
        raise GraphicsError(
            "EGL cannot create an OpenGL 3.3 context: install Mesa's software renderer, on Debian and Ubuntu with "
            "apt-get install libegl1 libgl1 libgl1-mesa-dri"
        ) from error


class Scene:
    """The scene of one person."""

    def __init__(self, head: Head, look: Look, size: int, smooth: Normals, extras: Extras) -> None:
        gl = self._gl = context()
        mesh, corners = head.mesh, head.mesh.corners
        own = mesh.vertices.copy()
        for part, centre in ((RIGHT_EYEBALL, mesh.eyes[0]), (LEFT_EYEBALL, mesh.eyes[1])):
            own[mesh.part == part] = (own[mesh.part == part] - centre) / mesh.eye_radius
        height = hair_height(mesh, look.hair)
        light = openness(head.rest, smooth(head.rest[None])[0], smooth, mesh)
        paint = np.stack([height, beard_share(mesh), _lid_share(mesh), light], axis=1)
        static = [np.concatenate([own[corners], mesh.uv, _lashes(head)[corners, None], paint[corners]], axis=1)]
        for surface in extras.surfaces:
            static.append(np.zeros((len(surface.own), 10)))
            static[-1][:, :3] = surface.own
        self._moving = gl.buffer(reserve=sum(map(len, static)) * 24)
        self._static = gl.buffer(np.concatenate(static).astype(np.float32).tobytes())

        part = mesh.part[mesh.triangles[:, 0]]
        parts = {"skin": part == SKIN, "tongue": part == TONGUE, "eyes": part >= LEFT_EYEBALL}
        drawn = [(kind, mesh.corner_triangles[chosen]) for kind, chosen in parts.items()]
        start = len(corners)
        for surface in extras.surfaces:
            drawn.append((surface.kind, surface.triangles + start))
            start += len(surface.points)
        if look.hair.cut != "bald":
            drawn.append(("hair", mesh.corner_triangles[(height[mesh.triangles] > -0.03).any(axis=1) & (part == SKIN)]))
        self._programs = {
            kind: gl.program(vertex_shader=VERTEX, fragment_shader=FRAGMENTS[kind])
            for kind in {kind for kind, _ in drawn}
        }
        self._surfaces = [self._array(kind, triangles) for kind, triangles in drawn]
        self._wall = self._background()
        self._textures = _textures(mesh, look, size)
        self._describe(mesh, look)
        self._drawn = gl.framebuffer(
            [gl.renderbuffer((size, size), 4, samples=_SAMPLES)], gl.depth_renderbuffer((size, size), samples=_SAMPLES)
        )
        self._picture = gl.simple_framebuffer((size, size), 4)
        self._size = size

    def draw(self, moving: np.ndarray, gaze: np.ndarray) -> np.ndarray:
        """(S,S,3) uint8 for positions and normals (n,6) float32 and a gaze (2,) in radians.

        The positions are those of the corners, and then those of the extras.
        """
        gl = self._gl
        self._moving.write(np.ascontiguousarray(moving, np.float32).tobytes())
        self._drawn.use()
        self._drawn.clear()
        for place, texture in enumerate(self._textures):
            texture.use(place)
        gl.disable(gl.DEPTH_TEST | gl.CULL_FACE)
        self._wall.render()
        self._set(gaze=gaze)
        gl.front_face = "cw"  # as y points down
        for kind, surface in self._surfaces:
            gl.enable_only(gl.DEPTH_TEST if kind in _TWO_SIDED else gl.DEPTH_TEST | gl.CULL_FACE)
            surface.render()
        gl.copy_framebuffer(self._picture, self._drawn)
        data = self._picture.read(components=3, alignment=1)
        return np.frombuffer(data, np.uint8).reshape(self._size, self._size, 3)

    def _array(self, kind: str, triangles: np.ndarray) -> tuple[str, Any]:
        program = self._programs[kind]
        layout = []
        for buffer, names in (
            (self._moving, {"position": 3, "normal": 3}),
            (self._static, {"rest": 3, "uv": 3, "paint": 4}),
        ):
            # A compiler drops what a program does not use: skip its bytes.
            known = [name for name in names if name in program]
            format_ = " ".join(f"{count}f" if name in known else f"{count * 4}x" for name, count in names.items())
            layout.append((buffer, format_, *known))
        return kind, self._gl.vertex_array(program, layout, self._gl.buffer(triangles.astype(np.int32).tobytes()))

    def _background(self) -> Any:
        program = self._gl.program(vertex_shader=BACKGROUND_VERTEX, fragment_shader=BACKGROUND_FRAGMENT)
        program["picture"].value = 2
        triangle = np.array([[-1, -1], [3, -1], [-1, 3]], np.float32)
        return self._gl.vertex_array(program, [(self._gl.buffer(triangle.tobytes()), "2f", "place")])

    def _describe(self, mesh: Mesh, look: Look) -> None:
        for program in self._programs.values():
            for place, name in enumerate(("masks", "noise")):
                if name in program:
                    program[name].value = place
        self._set(camera=(DISTANCE, SCALE / 2, _NEAR, _FAR), eye=mesh.eyes[1], mouth=mesh.vertices[mesh.lips].mean(0))
        hair = look.hair
        self._set(curl=hair.curl, sweep=hair.sweep, hair=hair.colour, scalp=0.0 if hair.cut == "bald" else 0.7)
        self._set(seed=look.seed * 0.618 % 1, **vars(look.light))
        painted = ("skin", "lip", "iris", "brow", "cloth", "blush", "freckles", "shine", "roughness", "lashes", "beard")
        self._set(**{name: getattr(look, name) for name in (*painted, "brow_height", "brow_thickness", "brow_arch")})
        for kind, program in self._programs.items():
            program["shell"].value = hair.thickness if kind == "hair" else 0.0
            program["behind"].value = _BEHIND_LIPS if kind == "teeth" else 0.0

    def _set(self, **values: Any) -> None:
        """Set a value in each program that uses it."""
        for name, value in values.items():
            for program in self._programs.values():
                if name in program:
                    program[name].value = tuple(map(float, value)) if np.ndim(value) else float(value)


def _textures(mesh: Mesh, look: Look, size: int) -> list[Any]:
    """Create the textures for the mouth masks, the grain and the background, in the units from which the programs read
    them.
    """
    gl = context()
    masks = gl.texture(mesh.masks.shape[1::-1], 2, np.ascontiguousarray(mesh.masks).tobytes())
    masks.build_mipmaps()
    grains = np.random.default_rng(7).integers(0, 256, (32, 32, 32), dtype=np.uint8)
    return [
        masks,
        gl.texture3d(grains.shape, 1, grains.tobytes()),
        gl.texture((size, size), 3, look.background(size).tobytes(), alignment=1),
    ]


def _lid_share(mesh: Mesh) -> np.ndarray:
    """(V,) how near each vertex of the skin is to the eyeballs' surface: 1 at the lids' edges."""
    away = np.linalg.norm(mesh.vertices[:, None] - mesh.eyes[None], axis=2).min(1) / mesh.eye_radius - 1
    front = mesh.vertices[:, 2] > mesh.eyes[0, 2] + 0.2 * mesh.eye_radius
    share = np.exp(-((np.maximum(away - 0.03, 0) / 0.10) ** 2))
    return np.where((mesh.part == SKIN) & front, share, 0)


def _lashes(head: Head) -> np.ndarray:
    """(V,) how near each vertex is to the edge of the upper lids, which a blink moves most.

    It is the movement of the vertex relative to the largest one of the vertices above and below it.
    """
    away = np.linalg.norm(sum(head.units[ARKIT.index(name)] for name in ("eyeBlinkLeft", "eyeBlinkRight")), axis=1)
    x = head.rest[:, 0]
    moved = np.flatnonzero((away > 0.12 * away.max()) & (head.mesh.part == SKIN))
    column = np.abs(x[moved, None] - x[moved]) < 0.012
    share = np.zeros(len(x))
    share[moved] = away[moved] / (column * away[moved]).max(axis=1)
    return share
