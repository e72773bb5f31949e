"""OpenGL buffers, textures and programs of one person, drawn without a display.

A frame is drawn at twice its side, and four samples become one pixel. On llvmpipe this costs as much as multisampling
with four samples, and it smooths what happens within surfaces too: highlights, strands, lashes.
"""

from functools import cache, lru_cache
from typing import Any

import numpy as np

from pipeline.common.errors import RefusedError
from pipeline.face.crop import SCALE
from pipeline.research.corpus import paint, shadow
from pipeline.research.corpus.clothes import GARMENTS
from pipeline.research.corpus.extras import Extras
from pipeline.research.corpus.hair import hair_height
from pipeline.research.corpus.head import PIVOT, Head, lid_edges, rotations, shift
from pipeline.research.corpus.look import Look, beard_share
from pipeline.research.corpus.mesh import LEFT_EYEBALL, RIGHT_EYEBALL, SKIN, TONGUE, Mesh
from pipeline.research.corpus.normals import Normals, openness
from pipeline.research.corpus.shaders import BACKGROUND_FRAGMENT, BACKGROUND_VERTEX, FRAGMENTS, HAIR_VERTEX, VERTEX
from pipeline.research.corpus.strands import grown, strand_texture

DISTANCE = 7.0
"""Distance of the camera in head sizes: about 1.4 m."""

_FINER = 2  # samples per pixel, along each side
_NEAR, _FAR = 3.0, 12.0  # head sizes from the camera
_TWO_SIDED = ("teeth", "throat", "clothes", "curtain", "hair", "lashes")
_BEHIND_LIPS = 0.06  # head sizes
_UNITS = ("masks", "noise", "picture", "skin_paint", "strands", "shadows")  # texture units by name


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


@cache
def _program(kind: str) -> Any:
    """Compiled once per process: a compiler costs more than a person's frames."""
    gl = context()
    if kind == "shadow":
        return shadow.program(gl)
    vertex, fragment = {
        "background": (BACKGROUND_VERTEX, BACKGROUND_FRAGMENT),
        "hair": (HAIR_VERTEX, FRAGMENTS["hair"]),
        "paint": (paint.VERTEX, paint.FRAGMENT),
        "strokes": (paint.STROKE_VERTEX, paint.STROKE_FRAGMENT),
    }.get(kind) or (VERTEX, FRAGMENTS[kind])
    made = gl.program(vertex_shader=vertex, fragment_shader=fragment)
    for place, name in enumerate(_UNITS):
        if name in made:
            made[name].value = place
    return made


@lru_cache(maxsize=1)
def _shared(mesh: Mesh) -> tuple[dict[str, Any], np.ndarray]:
    """What all persons share: textures by name, and the normals of the average head."""
    gl = context()
    masks = gl.texture(mesh.masks.shape[1::-1], 2, np.ascontiguousarray(mesh.masks).tobytes())
    grains = np.random.default_rng(7).integers(0, 256, (32, 32, 32), dtype=np.uint8)
    locks = strand_texture()
    strands = gl.texture(locks.shape[1::-1], 2, locks.tobytes())
    for texture in (masks, strands):
        texture.build_mipmaps()
    strands.repeat_y = False
    noise = gl.texture3d(grains.shape, 1, grains.tobytes())
    return {"masks": masks, "noise": noise, "strands": strands}, Normals(mesh)(mesh.vertices[None])[0]


class Scene:
    """The scene of one person."""

    def __init__(self, head: Head, look: Look, size: int, smooth: Normals, extras: Extras) -> None:
        gl = self._gl = context()
        mesh, corners = head.mesh, head.mesh.corners
        own = mesh.vertices.copy()
        for part, centre in ((RIGHT_EYEBALL, mesh.eyes[0]), (LEFT_EYEBALL, mesh.eyes[1])):
            own[mesh.part == part] = (own[mesh.part == part] - centre) / mesh.eye_radius
        height, normals = hair_height(mesh, look.hair), smooth(head.rest[None])[0]
        open_to = np.sqrt(openness(head.rest, normals, smooth, mesh))
        open_to = open_to * (0.12 + 0.88 * shadow.openness_to_room(mesh, gl))
        described = np.stack([height, beard_share(mesh), _lid_share(mesh), open_to], axis=1)
        static = [np.concatenate([own[corners], mesh.uv, lid_edges(head)[corners, None], described[corners]], axis=1)]
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
        self._surfaces = [(kind, self._array(_program(kind), triangles)) for kind, triangles in drawn]
        shading = _program("shadow")
        self._hiding = [
            (kind, self._array(shading, np.concatenate([triangles for one, triangles in drawn if one == kind])))
            for kind in ("skin", "clothes")
        ]
        cards = grown(head, look.hair, normals)
        if len(cards.triangles):
            locks = gl.buffer(cards.vertices.tobytes())
            layout = (locks, "3f 3f 3f 4f 1f", "position", "normal", "along", "lock", "edge")
            front, back = (gl.buffer(part.tobytes()) for part in np.split(cards.triangles, [cards.front]))
            self._surfaces.insert(0, ("hair", gl.vertex_array(_program("hair"), [layout], front)))
            self._surfaces.append(("hair", gl.vertex_array(_program("hair"), [layout], back)))
            self._locks = gl.vertex_array(shading, [(locks, "3f 44x", "position")], front)
        else:
            self._locks = None
        triangle = gl.buffer(np.array([[-1, -1], [3, -1], [-1, 3]], np.float32).tobytes())
        self._wall = gl.vertex_array(_program("background"), [(triangle, "2f", "place")])
        self._values = _values(mesh, look)
        self._axes = shadow.axes(np.array(look.light.key))
        self._textures = self._made_textures(mesh, look, size, parts["skin"])
        side = size * _FINER
        self._drawn = gl.simple_framebuffer((side, side), 4)
        self._size = size

    def begin(self) -> None:
        """Give the programs, which persons share, the values of this one."""
        for kind in {"background", "shadow", *(kind for kind, _ in self._surfaces)}:
            behind = _BEHIND_LIPS if kind == "teeth" else 0.0
            _set(_program(kind), self._values | {"behind": behind})
            _write(_program(kind), "light_axes", self._axes)
        for place, name in enumerate(_UNITS):
            self._textures[name].use(place)

    def draw(self, moving: np.ndarray, pose: np.ndarray, gaze: np.ndarray) -> np.ndarray:
        """(S,S,3) uint8 for positions and normals (n,6) float32, a pose (6,) and a gaze (2,) in radians.

        The positions are those of the corners, and then those of the extras. `begin` comes first.
        """
        gl = self._gl
        self._moving.write(np.ascontiguousarray(moving, np.float32).tobytes())
        turn, moved = rotations(pose[None])[0], shift(pose[None])[0]
        self._draw_shadows(turn, moved)
        self._drawn.use()
        self._drawn.clear()
        gl.disable(gl.DEPTH_TEST | gl.CULL_FACE | gl.BLEND)
        self._wall.render()
        gl.front_face = "cw"  # as y points down
        for kind, surface in self._surfaces:
            if kind == "eyes":
                _set(_program(kind), {"gaze": gaze})
            if kind == "hair":
                self._turn(_program(kind), turn, moved)
            gl.enable_only(gl.DEPTH_TEST if kind in _TWO_SIDED else gl.DEPTH_TEST | gl.CULL_FACE)
            surface.render()
        data = self._drawn.read(components=3, alignment=1)
        fine = np.frombuffer(data, np.uint8).reshape(self._size * _FINER, -1, 3)
        return _averaged(fine)

    def _draw_shadows(self, turn: np.ndarray, moved: np.ndarray) -> None:
        gl, program = self._gl, _program("shadow")
        self._depth.use()
        self._depth.clear()
        self._turn(program, np.eye(3, dtype=np.float32), np.zeros(3))
        # Of the head, the side away from the light casts the shadows: the lit one does not shade itself by rounding.
        gl.front_face, gl.cull_face = "ccw", "front"
        for kind, surface in self._hiding:
            gl.enable_only(gl.DEPTH_TEST | gl.CULL_FACE if kind == "skin" else gl.DEPTH_TEST)
            surface.render()
        gl.cull_face = "back"
        gl.enable_only(gl.DEPTH_TEST)
        if self._locks is not None:
            self._turn(program, turn, moved)
            self._locks.render()

    def _turn(self, program: Any, turn: np.ndarray, moved: np.ndarray) -> None:
        _write(program, "turn", turn)
        _set(program, {"moved": moved, "pivot": PIVOT})

    def _made_textures(self, mesh: Mesh, look: Look, size: int, skin: np.ndarray) -> dict[str, Any]:
        """The textures by name; those of `_UNITS`."""
        gl, (shared, normals) = self._gl, _shared(mesh)
        _set(_program("paint"), self._values)
        shared["noise"].use(_UNITS.index("noise"))
        surface = self._array(_program("paint"), paint.spread(mesh, skin))
        programs = _program("paint"), _program("strokes")
        side = 1024 if size > 256 else 640
        coat = paint.painted(gl, programs, surface, paint.strokes(mesh, look, normals), side, np.array(look.skin))
        depth, self._depth = shadow.depth_map(gl)
        picture = gl.texture((size, size), 3, look.background(size).tobytes(), alignment=1)
        return shared | {"picture": picture, "skin_paint": coat, "shadows": depth}

    def _array(self, program: Any, triangles: np.ndarray) -> Any:
        """A vertex array of the head and its extras, of these triangles."""
        layout = []
        for buffer, names in (
            (self._moving, {"position": 3, "normal": 3}),
            (self._static, {"rest": 3, "uv": 3, "paint": 4}),
        ):
            # A compiler drops what a program does not use: skip its bytes.
            known = [name for name in names if name in program]
            format_ = " ".join(f"{count}f" if name in known else f"{count * 4}x" for name, count in names.items())
            if known:
                layout.append((buffer, format_, *known))
        return self._gl.vertex_array(program, layout, self._gl.buffer(triangles.astype(np.int32).tobytes()))


def _averaged(fine: np.ndarray) -> np.ndarray:
    """(2S,2S,3) uint8 -> (S,S,3): the mean of four."""
    rows = fine[0::2].astype(np.uint16) + fine[1::2]
    return ((rows[:, 0::2] + rows[:, 1::2] + 2) >> 2).astype(np.uint8)


def _values(mesh: Mesh, look: Look) -> dict[str, Any]:
    """Values of the programs, by name."""
    hair = look.hair
    colours = ("skin", "lip", "iris", "brow", "cloth", "cloth2")
    brows = ("brow_height", "brow_thickness", "brow_arch")
    names = (*colours, *brows, "blush", "freckles", "shine", "roughness", "lashes", "beard", "age", "pattern")
    return {
        "camera": (DISTANCE, SCALE / 2, _NEAR, _FAR),
        "eye": mesh.eyes[1],
        "mouth": mesh.vertices[mesh.lips].mean(0),
        "hair": hair.colour,
        "hair_shine": hair.shine,
        "scalp": 0.0 if hair.cut == "bald" else 0.9,
        "seed": look.seed * 0.618 % 1,
        "garment": float(GARMENTS.index(look.garment)),
        **vars(look.light),
        **{name: getattr(look, name) for name in names},
    }


def _set(program: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if name in program:
            program[name].value = tuple(map(float, value)) if np.ndim(value) else float(value)


def _write(program: Any, name: str, matrix: np.ndarray) -> None:
    """A matrix (3,3), which OpenGL wants column by column."""
    if name in program:
        program[name].write(np.ascontiguousarray(matrix.T, np.float32).tobytes())


def _lid_share(mesh: Mesh) -> np.ndarray:
    """(V,) how near each vertex of the skin is to the eyeballs' surface: 1 at the lids' edges."""
    away = np.linalg.norm(mesh.vertices[:, None] - mesh.eyes[None], axis=2).min(1) / mesh.eye_radius - 1
    front = mesh.vertices[:, 2] > mesh.eyes[0, 2] + 0.2 * mesh.eye_radius
    share = np.exp(-((np.maximum(away - 0.03, 0) / 0.10) ** 2))
    return np.where((mesh.part == SKIN) & front, share, 0)
