"""How each kind of surface is coloured: the programs of `scene`, in GLSL 3.30, which software renderers support.

Light is computed in linear values, compressed with the curve of Narkowicz (2016, an approximation of ACES), and written
as sRGB. Skin takes diffuse light beyond the terminator, more of it red (a common substitute for subsurface scattering),
with two soft highlights (Blinn 1977). Hair has the two highlights of Kajiya and Kay (1989) along its strands. The key
light casts shadows by a depth map (`shadow`); the ambient light is darker in hollow places.
"""

from pipeline.research.corpus.surfaces import HAIR, SURFACES

PAINT_AT = """
vec2 paint_at(vec3 p) { return vec2(0.5 + atan(p.x, p.z + 0.35) / 4.4, (p.y + 0.85) / 1.75); }
"""
"""Where a place of the average head lies in the paint of the skin (`paint`): on a cylinder around the head, without its
back."""

BACKGROUND_VERTEX = """
#version 330
in vec2 place;
out vec2 at;
void main() { at = place * 0.5 + 0.5; gl_Position = vec4(place, 0.9999, 1.0); }
"""

BACKGROUND_FRAGMENT = """
#version 330
uniform sampler2D picture;
in vec2 at;
out vec4 colour;
void main() { colour = vec4(texture(picture, at).rgb, 1.0); }
"""

_CAMERA = """
uniform vec4 camera;       // distance, half side, near, far; head sizes
uniform float behind;      // how far the depth test takes a surface back: teeth never show through lips
vec4 seen(vec3 p) {
    float depth = camera.x - p.z;
    float z = (camera.w + camera.z - 2.0 * camera.w * camera.z / (depth + behind)) / (camera.w - camera.z);
    // The picture's first row is the framebuffer's first, so y points down.
    return vec4(p.x * camera.x / camera.y, -p.y * camera.x / camera.y, z * depth, depth);
}
"""

VERTEX = (
    "#version 330\n"
    + _CAMERA
    + PAINT_AT
    + """
in vec3 position;
in vec3 normal;
in vec3 rest;              // place on the average head; of eyes: on the unit sphere; of teeth and cloth: their own
in vec3 uv;                // place in the masks; lashes
in vec4 paint;             // height in the hair, beard, lid's edge, openness to the light
out vec3 at;
out vec3 facing;
out vec3 own;
out vec3 texel;
out vec2 painted;
out vec4 share;
void main() {
    gl_Position = seen(position);
    at = position; facing = normal; own = rest; texel = uv; share = paint; painted = paint_at(rest);
}
"""
)

HAIR_VERTEX = (
    "#version 330\n"
    + _CAMERA
    + """
uniform mat3 turn;         // of the head
uniform vec3 pivot;
uniform vec3 moved;
in vec3 position;
in vec3 normal;
in vec3 along;
in vec4 lock;              // place in the texture of strands, depth below the uppermost layer, random
in float edge;             // -1 and 1 at the sides of the lock
out vec3 at;
out vec3 facing;
out vec3 strand;
out vec4 share;
out float across;
void main() {
    across = edge;
    at = turn * (position - pivot) + pivot + moved;
    facing = turn * normal; strand = turn * along; share = lock;
    gl_Position = seen(at);
}
"""
)

_BEFORE = """
#version 330
uniform vec4 camera;
uniform sampler2D masks;
uniform sampler3D noise;
uniform sampler2D skin_paint;
uniform sampler2D strands;
uniform sampler2DShadow shadows;
uniform mat3 light_axes;   // rows: right, up and towards the key light
uniform vec3 skin, lip, iris, brow, hair, cloth, cloth2;
uniform vec3 key, key_colour, fill, fill_colour, sky, ground;
uniform vec3 eye;          // of the average head's left eye
uniform vec3 mouth;        // middle of its lips
uniform float shine, roughness, lashes, hair_shine, garment, pattern, collar;
uniform float seed;
uniform vec2 gaze;         // radians, to the right of the picture and up, of the head's own axes
in vec3 at;
in vec3 facing;
in vec4 share;
out vec4 colour;

float grain(vec3 p) { return texture(noise, p + seed).r; }
vec3 linear(vec3 c) { return pow(c, vec3(2.2)); }

float lit_by_key(vec3 p, vec3 n, float blur) {
    vec3 q = light_axes * (p + n * 0.02) / 1.35;
    q = vec3(q.xy, -q.z) * 0.5 + 0.5;
    q.z -= 0.006;
    float sum = texture(shadows, q);
    sum += texture(shadows, q + vec3(blur, 0.4 * blur, 0.0)) + texture(shadows, q + vec3(-blur, -0.4 * blur, 0.0));
    sum += texture(shadows, q + vec3(-0.4 * blur, blur, 0.0)) + texture(shadows, q + vec3(0.4 * blur, -blur, 0.0));
    return sum * 0.2;
}

float lit_roughly(vec3 p, vec3 n) {
    vec3 q = light_axes * (p + n * 0.03) / 1.35;
    q = vec3(q.xy, -q.z) * 0.5 + 0.5;
    vec3 aside = vec3(0.006, 0.004, 0.0);
    q.z -= 0.008;
    return 0.5 * (texture(shadows, q + aside) + texture(shadows, q - aside));
}

vec4 written(vec3 lit) {
    vec3 x = lit * 0.72;
    x = clamp(x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14), 0.0, 1.0);
    return vec4(pow(x, vec3(1.0 / 2.2)), 1.0);
}
"""

_HEAD_IN = """
in vec3 own;
in vec3 texel;
in vec2 painted;
void main() {
    vec3 n = normalize(facing);
    vec3 view = normalize(vec3(0.0, 0.0, camera.x) - at);
    vec3 albedo = vec3(0.5);
    vec3 wrap = vec3(0.0);
    float gloss = 0.0, power = 16.0, open = 1.0, sheen = 0.0;
"""

_AFTER = """
    float toward = dot(n, key);
    float shade = mix(1.0, lit_by_key(at, n, 0.015), smoothstep(-0.15, 0.2, toward));
    vec3 passed = wrap.r > 0.0 ? vec3(mix(shade, sqrt(shade), 0.15), shade, shade) : vec3(shade);
    vec3 diffuse = max((vec3(toward) + wrap) / (1.0 + wrap), 0.0) * passed * key_colour;
    diffuse += max((vec3(dot(n, fill)) + wrap) / (1.0 + wrap), 0.0) * fill_colour * open;
    vec3 room = mix(ground, sky, 0.5 + 0.5 * n.y) * open;
    room.r *= wrap.r > 0.0 ? mix(1.0, inversesqrt(max(open, 0.01)), 0.12) : 1.0;
    float facing_us = max(dot(n, view), 0.0);
    float grazing = pow(1.0 - facing_us, 4.0);
    float half_way = max(dot(n, normalize(key + view)), 0.0);
    float mirrored = pow(half_way, power) + 0.35 * pow(half_way, power * 5.0);
    float bright = gloss * (1.0 + 3.0 * grazing) * mirrored * max(toward, 0.0) * shade;
    vec3 lit = albedo * (diffuse * mix(0.55, 1.0, open) + room) + bright * key_colour * open;
    lit += sheen * grazing * sky * open;
    colour = written(lit);
}
"""

FRAGMENTS = {
    name: _BEFORE + _HEAD_IN + body + ("" if name == "eyes" else _AFTER) for name, body in SURFACES.items()
} | {"hair": _BEFORE + HAIR}
"""One program per kind of surface, because software renderers execute all branches of a program that asks what it
draws.
"""
