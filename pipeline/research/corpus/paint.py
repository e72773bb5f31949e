"""The paint of a person's skin: drawn once, as a texture, with brows, stubble and the roots of the hair hair by hair.

Mipmaps of the texture keep fine detail from flickering, and a frame costs one look into it. Colours are stored as their
square roots, and the fourth channel is the height of the skin, from which `shaders` makes a bump.
"""

from typing import Any

import numpy as np
import torch

from pipeline.research.corpus.hair import CUTS, hair_height
from pipeline.research.corpus.look import Look, beard_share
from pipeline.research.corpus.mesh import SKIN, Mesh
from pipeline.research.corpus.shaders import PAINT_AT

VERTEX = (
    "#version 330\n"
    + PAINT_AT
    + """
in vec3 rest;
in vec3 uv;
in vec4 paint;
out vec3 own;
out vec4 share;
void main() {
    own = rest; share = paint;
    // What is farther outside covers what is within.
    gl_Position = vec4(paint_at(rest) * 2.0 - 1.0, 0.5 - 0.4 * length(rest.xz + vec2(0.0, 0.35)), 1.0);
}
"""
)

FRAGMENT = """
#version 330
uniform sampler3D noise;
uniform vec3 skin, brow, hair;
uniform vec3 eye, mouth;
uniform float scalp, blush, freckles, beard, brow_height, brow_thickness, brow_arch, seed, age;
in vec3 own;
in vec4 share;
out vec4 colour;
float grain(vec3 p) { return texture(noise, p + seed).r; }
vec3 linear(vec3 c) { return pow(c, vec3(2.2)); }
void main() {
    float side = abs(own.x);
    vec3 albedo = linear(skin);
    float wide = grain(own * 0.5), middle = grain(own * 1.6), fine = grain(own * 5.0);
    albedo *= 0.88 + 0.12 * wide + 0.08 * middle + 0.05 * fine;
    albedo *= 1.0 + 0.16 * (grain(own * 1.1 + 0.5) - 0.5) * vec3(0.5, -0.3, -0.5);
    float below = own.y - mouth.y;
    float cheek = exp(-(pow(side - 0.23, 2.0) / 0.016 + pow(below - 0.19, 2.0) / 0.012));
    float tip = exp(-(own.x * own.x + pow(below - 0.20, 2.0)) / 0.007);
    float ear = smoothstep(-0.34, -0.40, own.z) * smoothstep(0.40, 0.48, side);
    float chin = exp(-(own.x * own.x / 0.02 + pow(below + 0.2, 2.0) / 0.006));
    float redder = max(max(cheek, 0.9 * tip), max(0.8 * ear, 0.4 * chin)) * (0.7 + 0.6 * middle);
    albedo *= mix(vec3(1.0), vec3(1.02, 0.70, 0.66), (0.25 + blush) * redder);
    float tired = exp(-(pow((side - eye.x * 0.92) / 0.11, 2.0) + pow((own.y - eye.y + 0.085) / 0.045, 2.0)));
    albedo *= mix(vec3(1.0), vec3(0.86, 0.76, 0.78), (0.35 + 0.5 * age) * tired);
    float spots = smoothstep(0.70, 0.80, grain(own * 4.5)) * smoothstep(0.40, 0.1, abs(below - 0.22));
    albedo *= mix(vec3(1.0), vec3(0.70, 0.52, 0.40), freckles * spots);
    float mole = smoothstep(0.955, 0.975, grain(own * 1.9 + 0.25)) * step(own.y, 0.5);
    albedo *= mix(vec3(1.0), vec3(0.45, 0.32, 0.28), mole * 0.7);
    // Shaved skin is greyish; the scalp shines dark through hair.
    float bristle = 0.5 + 0.9 * grain(own * vec3(9.0, 5.0, 9.0));
    float growth = smoothstep(0.0, 0.8, share.y + 0.35 * (middle - 0.5) * step(0.01, share.y));
    albedo = mix(albedo, linear(hair) * 0.6 + albedo * vec3(0.30, 0.32, 0.36), growth * beard * 0.70);
    float rooted = smoothstep(-0.02, 0.07, share.x + 0.06 * (middle - 0.5) + 0.03 * (bristle - 0.9));
    albedo = mix(albedo, linear(hair) * (0.35 + 0.35 * bristle), rooted * scalp);
    // Lids, and the shade under the brows' hairs.
    albedo *= mix(vec3(1.0), vec3(0.82, 0.68, 0.66), smoothstep(0.05, 0.6, share.z) * 0.55);
    float along = (side - (eye.x - 0.105)) / 0.27;
    float arch = eye.y + brow_height + brow_arch * (0.035 - 0.16 * pow(along - 0.62, 2.0)) - 0.012;
    float thick = brow_thickness * mix(1.2, 0.4, smoothstep(0.2, 1.0, along));
    float ends = smoothstep(-0.02, 0.25, along) * (1.0 - smoothstep(0.75, 1.02, along));
    float brows = (1.0 - smoothstep(thick * 0.2, thick * 1.5, abs(own.y - arch))) * ends * step(-0.25, own.z);
    albedo = mix(albedo, linear(brow), brows * 0.55);
    float pores = grain(own * 7.0) * 0.6 + grain(own * 3.3 + 0.3) * 0.4;
    float lines = age * smoothstep(0.55, 0.75, grain(vec3(own.x * 0.35, own.y * 2.6, 0.2)));
    lines *= smoothstep(0.3, 0.4, own.y);
    float lip_lines = grain(own * vec3(8.0, 0.9, 2.0));
    float near_lips = exp(-(own.x * own.x / 0.02 + below * below / 0.005));
    colour = vec4(sqrt(clamp(albedo, 0.0, 1.0)), mix(pores - 0.35 * lines, lip_lines, near_lips));
}
"""

STROKE_VERTEX = (
    "#version 330\n"
    + PAINT_AT
    + """
in vec3 rest;
in vec4 tint;
out vec4 tone;
void main() { gl_Position = vec4(paint_at(rest) * 2.0 - 1.0, 0.0, 1.0); tone = tint; }
"""
)

STROKE_FRAGMENT = """
#version 330
in vec4 tone;
out vec4 colour;
void main() { colour = tone; }
"""


def spread(mesh: Mesh, chosen: np.ndarray) -> np.ndarray:
    """Of the triangles chosen, those that do not cross the back of the head, where the paint ends."""
    angle = np.arctan2(mesh.vertices[:, 0], mesh.vertices[:, 2] + 0.35)[mesh.triangles]
    return mesh.corner_triangles[chosen & (np.ptp(angle, axis=1) < 2.0)]


def strokes(mesh: Mesh, look: Look, normals: np.ndarray) -> np.ndarray:
    """(n,7) float32, three rows per triangle: place on the average head, and colour with opacity.

    Hairs of brows and beard and fine hair at the hairline. `normals` (V,3) are those of the average head.
    """
    random = np.random.default_rng([look.seed, 6])
    parts = [_brows(mesh, look, random)]
    if look.beard > 0:
        share, skin = beard_share(mesh), np.array(look.hair.colour)
        length = 0.010 + 0.045 * max(0.0, look.beard - 0.3)
        roots, out = _scattered(mesh, normals, share, int(9000 * (0.4 + 0.6 * look.beard)), random)
        aim = np.stack([-0.5 * roots[:, 0], np.full(len(roots), -1.0), 0.2 + 0 * roots[:, 0]], axis=1)
        aim += random.normal(0, 0.45, aim.shape)
        parts.append(_curves(roots, out, aim, length, 0.0036, skin * 0.85, 0.25 + 0.4 * look.beard, random))
    if look.hair.cut != "bald":
        height = hair_height(mesh, look.hair)
        near = np.exp(-(((height - 0.01) / 0.035) ** 2)) * (mesh.vertices[:, 1] > 0.1)
        if CUTS[look.hair.cut].cards == 0:
            near = (height > 0.0) * (mesh.vertices[:, 1] > -0.1) * 1.0
        roots, out = _scattered(mesh, normals, near, 2200, random)
        short = CUTS[look.hair.cut].cards == 0
        aim = roots * (1, 0, 0) * 0.8 + np.array([0.0, 0.5 if not short else -0.3, -0.5])
        aim += random.normal(0, 0.35, aim.shape)
        length = 0.016 if short else 0.05
        parts.append(_curves(roots, out, aim, length, 0.0045, np.array(look.hair.colour) * 0.8, 0.5, random))
    made = np.concatenate(parts)
    # None at the back, where the paint ends.
    angle = np.arctan2(made[:, 0], made[:, 2] + 0.35).reshape(-1, 3)
    return made.reshape(-1, 3, 7)[np.abs(angle).max(1) < 2.1].reshape(-1, 7)


def _brows(mesh: Mesh, look: Look, random: np.random.Generator) -> np.ndarray:
    count = 230
    along = np.concatenate([random.beta(1.25, 1.1, count)] * 2) + random.normal(0, 0.01, 2 * count)
    side = np.repeat([-1.0, 1.0], count)
    eye = mesh.eyes[1]
    off = random.normal(0, 0.55, 2 * count).clip(-1.2, 1.2)
    thick = look.brow_thickness * np.interp(along, [0, 0.2, 1.0], [0.9, 1.2, 0.35])
    arch = eye[1] + look.brow_height + look.brow_arch * (0.035 - 0.16 * (along - 0.62) ** 2) - 0.012
    x, y = side * (eye[0] - 0.105 + 0.27 * along), arch + off * thick * 0.8
    # Inner hairs point up, outer ones follow the arch; those above lean down to it, those below up.
    up = np.interp(along, [0, 0.15, 0.45, 1.0], [1.3, 0.9, 0.35, -0.25]) - 0.5 * off
    aim = np.stack([side, up, 0 * up], axis=1) + random.normal(0, 0.15, (2 * count, 3))
    front = np.flatnonzero((mesh.part == SKIN) & (mesh.vertices[:, 2] > -0.25) & (mesh.vertices[:, 1] > 0.1))
    places = torch.from_numpy(np.stack([x, y], axis=1).astype(np.float32))
    away = torch.cdist(places, torch.from_numpy(mesh.vertices[front, :2]))
    near = away.topk(3, largest=False)
    weights = 1 / (near.values.numpy() + 1e-3)
    z = (mesh.vertices[front[near.indices.numpy()], 2] * weights).sum(1) / weights.sum(1)
    roots = np.stack([x, y, z], axis=1)
    out = np.tile([0.0, 0.0, 1.0], (2 * count, 1))
    strength = (0.72 * np.interp(along, [0.0, 0.25, 1.0], [0.45, 1.0, 0.9]))[:, None]
    return _curves(roots, out, aim, 0.034, 0.0052, np.array(look.brow), strength, random)


def _scattered(
    mesh: Mesh, normals: np.ndarray, density: np.ndarray, count: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Places (n,3) on the average head, and the normals there."""
    triangles = mesh.triangles[(density[mesh.triangles] > 0.02).all(axis=1)]
    a, b, c = (mesh.vertices[triangles[:, i]] for i in range(3))
    weights = np.linalg.norm(np.cross(b - a, c - a), axis=1) * density[triangles].mean(1)
    chosen = triangles[random.choice(len(triangles), count, p=weights / weights.sum())]
    shares = random.dirichlet([1, 1, 1], count)[..., None]
    return (mesh.vertices[chosen] * shares).sum(1), (normals[chosen] * shares).sum(1)


def _curves(
    roots: np.ndarray,
    out: np.ndarray,
    aim: np.ndarray,
    length: float,
    width: float,
    colour: np.ndarray,
    opacity: float | np.ndarray,
    random: np.random.Generator,
) -> np.ndarray:
    """Hairs as two quadrilaterals each, thin and faint at the tip: (12n,7)."""
    aim = aim - (aim * out).sum(1, keepdims=True) * out
    aim /= np.maximum(np.linalg.norm(aim, axis=1, keepdims=True), 1e-9)
    across = np.cross(aim, out)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-9)
    reach = length * random.uniform(0.6, 1.15, (len(roots), 1))
    bend = random.normal(0, 0.18, (len(roots), 1)) * across
    tone = colour * random.uniform(0.7, 1.25, (len(roots), 1))
    rows = []
    for share, wide, strength in ((0.0, 0.8, 0.85), (0.5, 1.0, 1.0), (1.0, 0.25, 0.3)):
        at = roots + reach * share * (aim + share * bend)
        tint = np.concatenate([tone, np.broadcast_to(opacity * strength, (len(roots), 1))], axis=1)
        rows.append([np.concatenate([at + edge * wide * width / 2 * across, tint], axis=1) for edge in (-1, 1)])
    found = []
    for low, high in ((0, 1), (1, 2)):
        (a, b), (c, d) = rows[low], rows[high]
        found += [a, b, c, b, d, c]
    made = np.stack(found, axis=1).reshape(-1, 7).astype(np.float32)
    made[:, 3:6] = np.sqrt(np.clip(made[:, 3:6], 0, 1) ** 2.2)
    return made


def painted(
    gl: Any, programs: tuple[Any, Any], surface: Any, strokes_at: np.ndarray, side: int, base: np.ndarray
) -> Any:
    """The texture, drawn by `surface` (a vertex array of the first program) and the strokes; `base` is the colour
    where no skin is."""
    texture = gl.texture((side, side), 4)
    target = gl.framebuffer([texture], gl.depth_renderbuffer((side, side)))
    target.use()
    target.clear(*np.sqrt(base**2.2).tolist(), 0.5)
    gl.enable_only(gl.DEPTH_TEST)
    surface.render()
    gl.enable_only(gl.BLEND)
    gl.blend_func = gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA, gl.ZERO, gl.ONE
    hairs = gl.vertex_array(programs[1], [(gl.buffer(strokes_at.tobytes()), "3f 4f", "rest", "tint")])
    hairs.render()
    texture.build_mipmaps()
    texture.filter = gl.LINEAR_MIPMAP_LINEAR, gl.LINEAR
    texture.repeat_x = texture.repeat_y = False
    return texture
