"""How each kind of surface is coloured: the programs of `renderer`, in GLSL 3.30, which software renderers support.

Light is computed in linear values and written as sRGB. Skin takes diffuse light beyond the terminator, more of it red
(a common substitute for subsurface scattering), with a soft highlight (Blinn 1977). There are no cast shadows; hollow
areas are darker by `cavity`.
"""

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

VERTEX = """
#version 330
uniform vec4 camera;       // distance, half side, near, far; head sizes
uniform float shell;       // thickness of the hair; 0 for everything else
uniform float behind;      // how far the depth test takes a surface back: teeth never show through lips
uniform float sweep;
uniform float curl;
uniform sampler3D noise;
in vec3 position;
in vec3 normal;
in vec3 rest;              // place on the average head; of eyes: on the unit sphere; of teeth and cloth: their own
in vec3 uv;                // place in the masks; lashes
in vec4 paint;             // height in the hair, beard, lid's edge, cavity
out vec3 at;
out vec3 facing;
out vec3 own;
out vec3 texel;
out vec4 share;
void main() {
    vec3 p = position;
    if (shell > 0.0) {
        float grown = smoothstep(0.0, 0.16, paint.x) * 0.85 + smoothstep(0.0, 0.03, paint.x) * 0.15;
        float lump = 0.85 + (0.3 + 0.5 * curl) * (texture(noise, rest * (0.25 + 0.2 * curl)).r - 0.5);
        p += normal * shell * grown * lump * (1.0 + sweep * clamp(rest.x * 2.5, -1.0, 1.0));
    }
    float depth = camera.x - p.z;
    float z = (camera.w + camera.z - 2.0 * camera.w * camera.z / (depth + behind)) / (camera.w - camera.z);
    // The picture's first row is the framebuffer's first, so y points down.
    gl_Position = vec4(p.x * camera.x / camera.y, -p.y * camera.x / camera.y, z * depth, depth);
    at = p; facing = normal; own = rest; texel = uv; share = paint;
}
"""

_BEFORE = """
#version 330
uniform vec4 camera;
uniform float curl;
uniform sampler2D masks;
uniform sampler3D noise;
uniform vec3 skin, lip, iris, brow, hair, cloth;
uniform vec3 key, key_colour, fill, fill_colour, sky, ground;
uniform vec3 eye;          // of the average head's left eye
uniform vec3 mouth;        // middle of its lips
uniform float scalp, blush, freckles, shine, roughness, lashes, beard, brow_height, brow_thickness, brow_arch;
uniform float seed;
uniform vec2 gaze;         // radians, to the right of the picture and up, of the head's own axes
in vec3 at;
in vec3 facing;
in vec3 own;
in vec3 texel;
in vec4 share;
out vec4 colour;

float grain(vec3 p) { return texture(noise, p + seed).r; }
vec3 linear(vec3 c) { return pow(c, vec3(2.2)); }

void main() {
    vec3 n = normalize(facing);
    vec3 view = normalize(vec3(0.0, 0.0, camera.x) - at);
    vec3 albedo = linear(skin);
    vec3 wrap = vec3(0.0);
    float gloss = 0.0, power = 16.0, open = 1.0;
"""

_AFTER = """
    float toward = dot(n, key);
    vec3 diffuse = max((vec3(toward) + wrap) / (1.0 + wrap), 0.0) * key_colour;
    diffuse += max((vec3(dot(n, fill)) + wrap) / (1.0 + wrap), 0.0) * fill_colour;
    vec3 room = mix(ground, sky, 0.5 + 0.5 * n.y);
    float grazing = pow(1.0 - max(dot(n, view), 0.0), 4.0);
    float mirrored = pow(max(dot(n, normalize(key + view)), 0.0), power);
    float bright = gloss * (1.0 + 2.0 * grazing) * mirrored * max(toward, 0.0);
    vec3 lit = albedo * (diffuse * mix(0.35, 1.0, open) + room) * open + bright * key_colour * open;
    colour = vec4(pow(1.0 - exp(-1.25 * lit), vec3(1.0 / 2.2)), 1.0);
}
"""

_SURFACES = {
    "skin": """
    float side = abs(own.x);
    vec2 mask = texture(masks, texel.xy).rg;
    albedo *= 0.90 + 0.12 * grain(own * 0.9) + 0.08 * grain(own * 3.7);
    float cheek = exp(-(pow(side - 0.24, 2.0) / 0.014 + pow(own.y - mouth.y - 0.17, 2.0) / 0.012));
    float tip = exp(-(own.x * own.x + pow(own.y - mouth.y - 0.21, 2.0)) / 0.006);
    albedo *= mix(vec3(1.0), vec3(1.02, 0.72, 0.70), blush * max(cheek, 0.7 * tip));
    float spots = smoothstep(0.72, 0.85, grain(own * 9.0)) * smoothstep(0.35, 0.1, abs(own.y - mouth.y - 0.2));
    albedo *= mix(vec3(1.0), vec3(0.75, 0.58, 0.46), freckles * spots);
    // The scalp under the hair, and the beard.
    float bristle = 0.45 + 0.9 * grain(vec3(own.x * 14.0, own.y * 7.0, own.z * 14.0));
    float growth = beard * smoothstep(0.0, 0.8, share.y + 0.5 * (bristle - 0.9) * share.y);
    albedo = mix(albedo, linear(hair) * bristle, max(growth * 0.85, scalp * smoothstep(-0.02, 0.04, share.x)));
    // Lids: the crease and the corners are darker, the edge nearly black.
    float lid = share.z;
    albedo *= mix(vec3(1.0), vec3(0.80, 0.70, 0.68), smoothstep(0.05, 0.6, lid) * 0.6);
    float dark = max(smoothstep(0.84, 0.96, texel.z), 0.45 * smoothstep(0.6, 0.95, lid));
    albedo = mix(albedo, vec3(0.012, 0.009, 0.008), lashes * dark);
    albedo = mix(albedo, linear(lip) * (0.85 + 0.3 * grain(own * vec3(9.0, 1.5, 3.0))), mask.r);
    // Brows: an arch from over the inner corner to beyond the outer one, thinning out.
    float along = (side - (eye.x - 0.105)) / 0.27;
    float arch = eye.y + brow_height + brow_arch * (0.035 - 0.16 * pow(along - 0.62, 2.0)) - 0.012;
    float thick = brow_thickness * mix(1.25, 0.45, smoothstep(0.2, 1.0, along));
    float ends = smoothstep(0.0, 0.14, along) * (1.0 - smoothstep(0.85, 1.0, along));
    float stroke = grain(vec3(own.x * 16.0, own.y * 6.0, 0.1));
    float off = abs(own.y - arch + 0.008 * (stroke - 0.5));
    float brows = (1.0 - smoothstep(thick * 0.4, thick * 1.3, off)) * ends * step(-0.25, own.z);
    albedo = mix(albedo, linear(brow) * (0.6 + 0.8 * stroke), brows * 0.85);
    wrap = vec3(0.30, 0.16, 0.12) * (1.0 - growth);
    gloss = mix(0.05, 0.16, shine) * (1.0 - 0.7 * growth) * (1.0 - brows);
    power = mix(26.0, 7.0, roughness);
    gloss = mix(gloss, 0.14, mask.r); power = mix(power, 24.0, mask.r);
    open = share.w;
    // The inside of the mouth is drawn on the same mesh.
    float depth = smoothstep(mouth.z - 0.26, mouth.z - 0.02, own.z);
    float inside = step(0.5, mask.g);
    albedo = mix(albedo, linear(vec3(0.42, 0.14, 0.14)), inside);
    open = mix(open, 0.06 + 0.5 * depth, inside); gloss *= 1.0 - inside; wrap *= 1.0 - inside;
""",
    "hair": """
    float edge = share.x + 0.03 * (grain(own * vec3(5.0, 1.2, 5.0)) - 0.5) * (1.0 + curl);
    if (edge < 0.0) discard;
    float around = atan(own.x, own.z + 0.35);
    float strand = mix(grain(vec3(around * 3.0, own.y * 0.25, 0.3)), grain(own * 2.6), curl);
    float fine = mix(grain(vec3(around * 9.0, own.y * 0.5, 0.7)), grain(own * 6.0), curl);
    albedo = linear(hair) * (0.45 + 0.6 * strand + 0.5 * fine);
    albedo = mix(linear(skin), albedo, 0.35 + 0.65 * smoothstep(0.0, 0.05, edge + 0.03 * (fine - 0.5)));
    gloss = 0.07 * (1.0 - 0.8 * curl); power = 9.0;
    open = mix(0.75, 1.0, smoothstep(0.0, 0.1, share.x));
""",
    "tongue": """
    albedo = linear(vec3(0.66, 0.33, 0.33)); gloss = 0.05; power = 30.0;
    open = 0.15 + 0.55 * smoothstep(mouth.z - 0.22, mouth.z - 0.02, own.z);
""",
    "eyes": """
    vec3 c = normalize(own);
    vec3 axis = normalize(vec3(tan(gaze.x), tan(gaze.y), 1.0));
    float r = length(c - axis * dot(c, axis)) + step(dot(c, axis), 0.0);
    float spoke = grain(vec3(atan(dot(c, cross(axis, vec3(0, 1, 0))), c.y - axis.y) * 1.4, r * 0.3, 0.2));
    albedo = linear(vec3(0.90, 0.87, 0.84)) * mix(vec3(1.0), vec3(0.93, 0.72, 0.68), smoothstep(0.5, 0.95, abs(c.x)));
    vec3 coloured = linear(iris) * (0.55 + 1.0 * spoke) * mix(1.25, 0.8, smoothstep(0.2, 0.42, r));
    coloured *= 1.0 - 0.75 * smoothstep(0.38, 0.47, r);
    albedo = mix(coloured, albedo, smoothstep(0.45, 0.50, r));
    albedo = mix(vec3(0.004), albedo, smoothstep(0.17, 0.21, r));
    // The upper lid and its lashes shade the eye.
    open = mix(0.42, 1.0, smoothstep(0.52, 0.08, c.y)) * mix(0.7, 1.0, smoothstep(0.95, 0.5, abs(c.x)));
    gloss = 0.9; power = 160.0;
""",
    "throat": """
    albedo = linear(vec3(0.35, 0.11, 0.11)); open = 0.07;
""",
    "teeth": """
    float tooth = abs(fract(own.x * 12.0) - 0.5) * 2.0;
    albedo = linear(vec3(0.86, 0.82, 0.74)) * (1.0 - 0.30 * smoothstep(0.8, 1.0, tooth));
    albedo = mix(linear(vec3(0.70, 0.38, 0.38)), albedo, smoothstep(0.12, 0.25, own.y - 0.1 * tooth));
    open = 0.75 * smoothstep(0.5, 0.12, abs(own.x - 0.5));
    gloss = 0.08; power = 40.0;
""",
    "clothes": """
    albedo = linear(cloth) * (0.8 + 0.25 * grain(own * 1.7) + 0.2 * grain(own * vec3(14.0, 14.0, 3.0)));
    open = mix(0.6, 1.0, smoothstep(0.75, 0.2, own.y));
""",
    "curtain": """
    float strand = mix(grain(vec3(own.x * 5.0, own.y * 0.3, own.z * 3.0)), grain(own * 2.6), curl);
    albedo = linear(hair) * (0.4 + 0.6 * strand + 0.5 * grain(vec3(own.x * 16.0, own.y * 0.5, 0.7)));
    gloss = 0.06 * (1.0 - curl); power = 9.0; open = 0.7;
""",
}

FRAGMENTS = {name: _BEFORE + body + _AFTER for name, body in _SURFACES.items()}
"""One program per kind of surface, because software renderers execute all branches of a program that asks what it
draws.
"""
