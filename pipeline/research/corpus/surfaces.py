"""What is special about each kind of surface: the middle parts, in GLSL, of the programs that `shaders` puts together.

A part sets the colour (`albedo`, linear), the normal `n`, how far light wraps around the terminator (`wrap`), the
highlights (`gloss`, `power`, `sheen`) and how open the place is to the room (`open`). Eyes and hair write their colour
themselves.
"""

_BUMP = """
    vec3 dx = dFdx(at), dy = dFdy(at);
    vec3 r1 = cross(dy, n), r2 = cross(n, dx);
    float size = dot(dx, r1);
    n = normalize(abs(size) * n - bump * sign(size) * (dFdx(height) * r1 + dFdy(height) * r2));
"""

SURFACES = {
    "skin": """
    vec2 mask = texture(masks, texel.xy).rg;
    vec4 coat = texture(skin_paint, painted);
    albedo = coat.rgb * coat.rgb;
    float inside = smoothstep(0.3, 0.7, mask.g);
    float red = smoothstep(0.15, 0.85, mask.r) * (1.0 - inside);
    vec3 lips = linear(lip) * (0.80 + 0.4 * coat.a);
    albedo = mix(albedo, lips, red * 0.9);
    // Lids: the edge of the upper one is nearly black with lashes, that of the lower one is moist.
    float lid = share.z;
    float dark = max(smoothstep(0.86, 0.96, texel.z), 0.35 * smoothstep(0.75, 0.97, lid));
    albedo = mix(albedo, vec3(0.012, 0.009, 0.008), lashes * dark);
    float height = coat.a, bump = 0.0018 * (1.0 - inside);
"""
    + _BUMP
    + """
    wrap = vec3(0.36, 0.20, 0.15);
    gloss = mix(0.035, 0.12, shine) * (0.7 + 0.6 * coat.a);
    power = mix(22.0, 8.0, roughness);
    gloss = mix(gloss, 0.10, red); power = mix(power, 20.0, red);
    open = share.w; sheen = 0.10;
    // The inside of the mouth is drawn on the same mesh.
    float depth = smoothstep(mouth.z - 0.26, mouth.z - 0.02, own.z);
    albedo = mix(albedo, linear(vec3(0.46, 0.16, 0.16)), inside);
    open = mix(open, 0.05 + 0.45 * depth, inside); gloss *= 1.0 - inside; wrap *= 1.0 - inside;
""",
    "tongue": """
    albedo = linear(vec3(0.72, 0.36, 0.36)) * (0.9 + 0.2 * grain(own * 6.0));
    gloss = 0.10; power = 30.0; wrap = vec3(0.3, 0.15, 0.1);
    open = 0.15 + 0.6 * smoothstep(mouth.z - 0.22, mouth.z - 0.02, own.z);
""",
    "eyes": """
    vec3 c = normalize(own);
    vec3 axis = normalize(vec3(tan(gaze.x), tan(gaze.y), 1.0));
    float r = length(c - axis * dot(c, axis)) + step(dot(c, axis), 0.0);
    float angle = atan(dot(c, cross(axis, vec3(0, 1, 0))), c.y - axis.y);
    float spoke = grain(vec3(angle * 1.6, r * 0.25, 0.2)), fine = grain(vec3(angle * 4.5, r * 0.5, 0.6));
    albedo = linear(vec3(0.86, 0.83, 0.80)) * mix(vec3(1.0), vec3(0.93, 0.70, 0.66), smoothstep(0.45, 0.95, abs(c.x)));
    vec3 coloured = linear(iris) * (0.25 + 0.75 * spoke + 0.4 * fine);
    // Light that enters the cornea on one side brightens the iris on the other; around the pupil it is lighter.
    coloured *= 1.0 + 0.9 * smoothstep(-0.1, 0.4, -dot(c - axis, normalize(vec3(key.xy, 0.1))));
    coloured = mix(coloured * vec3(1.5, 1.2, 0.9), coloured, smoothstep(0.18, 0.30, r));
    coloured *= 1.0 - 0.85 * smoothstep(0.36, 0.46, r);
    albedo = mix(coloured, albedo, smoothstep(0.43, 0.50, r));
    albedo = mix(vec3(0.004), albedo, smoothstep(0.155, 0.195, r));
    // The upper lid and its lashes shade the eye.
    open = mix(0.30, 1.0, smoothstep(0.50, 0.02, c.y)) * mix(0.6, 1.0, smoothstep(0.95, 0.45, abs(c.x)));
    // What the wet cornea mirrors: a window where the key light is, and weakly the room above.
    vec3 bulge = normalize(n + 0.35 * (r < 0.5 ? (c - axis) : vec3(0.0)));
    vec3 mirror = reflect(-view, bulge);
    float window = smoothstep(0.945, 0.975, dot(mirror, normalize(key + vec3(0.0, 0.1, 0.35))));
    float softbox = smoothstep(0.90, 0.98, dot(mirror, normalize(fill + vec3(0.0, 0.2, 0.5))));
    vec3 glints = (1.6 * window) * key_colour + 0.25 * softbox * (fill_colour + 0.2);
    glints *= smoothstep(0.42, 0.25, c.y) ;
    float toward_key = dot(n, key);
    float lid_shade = mix(0.45, 1.0, lit_by_key(at, n, 0.01));
    vec3 soft = max(vec3(toward_key + 0.3) / 1.3, 0.0) * key_colour * lid_shade + max(dot(n, fill), 0.0) * fill_colour;
    colour = written(albedo * (soft + mix(ground, sky, 0.5 + 0.5 * n.y)) * open * 0.95 + glints * mix(0.4, 1.0, open));
}
""",
    "throat": """
    albedo = linear(vec3(0.35, 0.11, 0.11)); open = 0.05;
""",
    "teeth": """
    float tooth = abs(fract(own.x * 12.0) - 0.5) * 2.0;
    float edge = 1.0 - 0.25 * pow(tooth, 6.0);
    albedo = linear(vec3(0.86, 0.82, 0.74)) * mix(0.55, 1.0, smoothstep(1.0, 0.82, tooth)) * edge;
    albedo = mix(linear(vec3(0.72, 0.40, 0.40)), albedo, smoothstep(0.12, 0.22, own.y - 0.12 * tooth * tooth));
    n = normalize(n + vec3(0.35 * (fract(own.x * 12.0) - 0.5), 0.0, 0.0));
    open = 0.80 * smoothstep(0.52, 0.10, abs(own.x - 0.5));
    gloss = 0.18; power = 40.0; wrap = vec3(0.15);
""",
    "lashes": """
    float hair_at = abs(fract(own.x * 21.0 + 0.5 * own.y * (own.x - 0.5)) - 0.5) * 2.0;
    if (hair_at > 0.85 - 0.80 * own.y) discard;
    albedo = vec3(0.010, 0.008, 0.007);
""",
    "clothes": """
    n = dot(n, view) < 0.0 ? -n : n;
    float ring = own.z;
    float flap = step(own.z, -5.0);
    float front = smoothstep(-0.2, 0.1, at.z + 0.25);
    float weave = grain(own * vec3(9.0, 9.0, 0.0) + 0.3);
    float fold = grain(vec3(own.x * 0.10 + own.y * 0.05, own.y * 0.07, 0.4)) - 0.5;
    float crease = grain(vec3(own.x * 0.22, own.y * 0.14, 0.8)) - 0.5;
    albedo = linear(cloth) * (0.86 + 0.28 * weave) * (1.0 + 0.35 * fold + 0.2 * crease);
    float stripes = smoothstep(0.25, 0.35, abs(fract(own.y * 11.0 + 0.02 * fold) - 0.5));
    stripes *= step(0.75, pattern) * (1.0 - flap) * step(0.3, ring);
    albedo = mix(albedo, linear(cloth2) * (0.86 + 0.28 * weave), stripes);
    float knit = 0.5 + 0.5 * cos(own.x * 190.0);
    float band = (1.0 - smoothstep(0.1, 0.35, ring)) * (1.0 - flap);
    if (garment < 1.5) albedo *= mix(1.0, 0.72 + 0.28 * knit, band);
    vec3 bent = vec3(fold * 0.8 + crease * 0.5, crease * 0.5, 0.0);
    n = normalize(n + bent * (1.0 - band));
    open = mix(0.45, 1.0, smoothstep(0.0, 0.9, abs(ring))) * mix(0.75, 1.0, smoothstep(-0.02, -0.12, own.y));
    vec3 collars = garment > 3.5 ? linear(cloth2) : linear(cloth) * 1.06;
    if (flap > 0.5) { albedo = collars * (0.88 + 0.24 * weave); open = 0.9; }
    if (garment > 1.5 && flap < 0.5) {
        // An opening in front: skin, or the shirt under a jacket.
        float wide = garment > 3.5 ? 0.22 : (garment > 2.5 ? 0.13 : 0.17);
        float deep = garment > 3.5 ? 0.36 : (garment > 2.5 ? 0.14 : 0.24);
        float v = wide * (1.0 + (own.y + 0.06) / deep) - abs(own.x);
        float inside = smoothstep(-0.004, 0.004, v) * front;
        inside = max(inside, smoothstep(-2.0, -2.15, ring));
        float rim = smoothstep(-0.05, -0.04, v) * front;
        vec3 under = linear(skin) * 0.92;
        if (garment > 3.5) {
            under = linear(cloth2) * (0.9 + 0.2 * weave);
            float throat = 0.09 * (1.0 + (own.y + 0.05) / 0.14) - abs(own.x);
            under = mix(under, linear(skin) * 0.9, smoothstep(-0.003, 0.003, throat));
            albedo *= mix(1.0, 0.72, smoothstep(-0.13, -0.12, v) * front);
        }
        albedo *= mix(1.0, 0.86, rim * (1.0 - inside));
        albedo = mix(albedo, under, inside);
        open = mix(open, 0.9, inside);
        open *= mix(1.0, 0.75, inside * smoothstep(0.03, 0.0, v));
        wrap = vec3(0.3, 0.15, 0.1) * inside;
    }
    sheen = 0.15;
""",
    "curtain": """
    albedo = linear(hair) * (0.25 + 0.25 * grain(vec3(own.x * 12.0, own.y * 0.4, 0.7)));
    open = 0.6;
""",
}

HAIR = """
in vec3 strand;
in float across;
void main() {
    vec2 lock = texture(strands, vec2(share.x, share.y)).rg;
    // An ordered pattern of four thresholds, in the four samples that become one pixel.
    vec2 odd = mod(floor(gl_FragCoord.xy) + floor(share.w * vec2(7.0, 13.0)), 2.0);
    float threshold = (odd.x * 2.0 + mod(odd.x + odd.y, 2.0) + 0.5) * 0.25;
    float opaque = lock.r * smoothstep(1.0, 0.45, abs(across) * (0.6 + 0.8 * lock.g));
    if (opaque < 0.08 + 0.80 * threshold) discard;
    vec3 n = normalize(facing);
    vec3 view = normalize(vec3(0.0, 0.0, camera.x) - at);
    n = dot(n, view) < 0.0 ? -n : n;
    vec3 t = normalize(normalize(strand) + n * (lock.g - 0.5) * 0.5);
    float under = share.z;
    float tone = (0.55 + 0.9 * lock.g) * (0.80 + 0.4 * share.w) * mix(0.55, 1.12, smoothstep(0.0, 0.5, share.y));
    float pale = smoothstep(0.35, 0.75, hair.g);  // light passes through, and strands differ less
    tone = mix(tone, 0.9, 0.55 * pale);
    vec3 albedo = linear(hair) * tone * mix(1.0, 0.45 + 0.25 * pale, under);
    float toward = dot(n, key);
    float shade = mix(0.30, 1.0, lit_roughly(at, n));
    float open = mix(1.0, 0.55, under);
    vec3 diffuse = max((toward + 0.35) / 1.35, 0.0) * key_colour * shade;
    diffuse += max((dot(n, fill) + 0.35) / 1.35, 0.0) * fill_colour * open;
    vec3 room = mix(ground, sky, 0.5 + 0.5 * n.y) * open;
    vec3 middle = normalize(key + view);
    float one = dot(normalize(t + n * 0.10), middle), two = dot(normalize(t - n * 0.12), middle);
    float sharp = pow(max(1.0 - one * one, 0.0), 60.0), broad = pow(max(1.0 - two * two, 0.0), 14.0);
    vec3 light = (0.14 * sharp + 1.3 * broad * albedo) * hair_shine * key_colour;
    light *= smoothstep(-0.2, 0.5, toward) * shade;
    float back = pow(1.0 - max(dot(n, view), 0.0), 3.0);
    colour = written(albedo * (diffuse + room) * 1.15 + light * mix(1.0, 0.4, under) + albedo * back * sky * 1.2);
}
"""
