"""Languages of tracks: what a tag of BCP 47 is in the codes of three letters that containers have (ISO 639-2)."""

_CODES = """
aa aar, ab abk, ae ave, af afr, ak aka, am amh, an arg, ar ara, as asm, av ava, ay aym, az aze, ba bak, be bel,
bg bul, bh bih, bi bis, bm bam, bn ben, bo bod tib, br bre, bs bos, ca cat, ce che, ch cha, co cos, cr cre,
cs ces cze, cu chu, cv chv, cy cym wel, da dan, de deu ger, dv div, dz dzo, ee ewe, el ell gre, en eng, eo epo,
es spa, et est, eu eus baq, fa fas per, ff ful, fi fin, fj fij, fo fao, fr fra fre, fy fry, ga gle, gd gla, gl glg,
gn grn, gu guj, gv glv, ha hau, he heb, hi hin, ho hmo, hr hrv, ht hat, hu hun, hy hye arm, hz her, ia ina, id ind,
ie ile, ig ibo, ii iii, ik ipk, io ido, is isl ice, it ita, iu iku, ja jpn, jv jav, ka kat geo, kg kon, ki kik,
kj kua, kk kaz, kl kal, km khm, kn kan, ko kor, kr kau, ks kas, ku kur, kv kom, kw cor, ky kir, la lat, lb ltz,
lg lug, li lim, ln lin, lo lao, lt lit, lu lub, lv lav, mg mlg, mh mah, mi mri mao, mk mkd mac, ml mal, mn mon,
mr mar, ms msa may, mt mlt, my mya bur, na nau, nb nob, nd nde, ne nep, ng ndo, nl nld dut, nn nno, no nor, nr nbl,
nv nav, ny nya, oc oci, oj oji, om orm, or ori, os oss, pa pan, pi pli, pl pol, ps pus, pt por, qu que, rm roh,
rn run, ro ron rum, ru rus, rw kin, sa san, sc srd, sd snd, se sme, sg sag, si sin, sk slk slo, sl slv, sm smo,
sn sna, so som, sq sqi alb, sr srp, ss ssw, st sot, su sun, sv swe, sw swa, ta tam, te tel, tg tgk, th tha, ti tir,
tk tuk, tl tgl, tn tsn, to ton, tr tur, ts tso, tt tat, tw twi, ty tah, ug uig, uk ukr, ur urd, uz uzb, ve ven,
vi vie, vo vol, wa wln, wo wol, xh xho, yi yid, yo yor, za zha, zh zho chi, zu zul, ace, ach, ada, ady, afa, afh,
ain, akk, ale, alg, alt, ang, anp, apa, arc, arn, arp, art, arw, ast, ath, aus, awa, bad, bai, bal, ban, bas, bat,
bej, bem, ber, bho, bik, bin, bla, bnt, bra, btk, bua, bug, byn, cad, cai, car, cau, ceb, cel, chb, chg, chk, chm,
chn, cho, chp, chr, chy, cmc, cnr, cop, cpe, cpf, cpp, crh, crp, csb, cus, dak, dar, day, del, den, dgr, din, doi,
dra, dsb, dua, dum, dyu, efi, egy, eka, elx, enm, ewo, fan, fat, fil, fiu, fon, frm, fro, frr, frs, fur, gaa, gay,
gba, gem, gez, gil, gmh, goh, gon, gor, got, grb, grc, gsw, gwi, hai, haw, hil, him, hit, hmn, hsb, hup, iba, ijo,
ilo, inc, ine, inh, ira, iro, jbo, jpr, jrb, kaa, kab, kac, kam, kar, kaw, kbd, kha, khi, kho, kmb, kok, kos, kpe,
krc, krl, kro, kru, kum, kut, lad, lah, lam, lez, lol, loz, lua, lui, lun, luo, lus, mad, mag, mai, mak, man, map,
mas, mdf, mdr, men, mga, mic, min, mis, mkh, mnc, mni, mno, moh, mos, mul, mun, mus, mwl, mwr, myn, myv, nah, nai,
nap, nds, new, nia, nic, niu, nog, non, nqo, nso, nub, nwc, nym, nyn, nyo, nzi, osa, ota, oto, paa, pag, pal, pam,
pap, pau, peo, phi, phn, pon, pra, pro, raj, rap, rar, roa, rom, rup, sad, sah, sai, sal, sam, sas, sat, scn, sco,
sel, sem, sga, sgn, shn, sid, sio, sit, sla, sma, smi, smj, smn, sms, snk, sog, son, srn, srr, ssa, suk, sus, sux,
syc, syr, tai, tem, ter, tet, tig, tiv, tkl, tlh, tli, tmh, tog, tpi, tsi, tum, tup, tut, tvl, tyv, udm, uga, umb,
und, vai, vot, wak, wal, war, was, wen, xal, yao, yap, ypk, zap, zbl, zen, zgh, znd, zun, zxx, zza
"""
"""The code list of ISO 639-2, whose registration authority is the Library of Congress, as the package iso-codes 4.15
has it: the code of two letters (ISO 639-1) if there is one, that of the terminology list (639-2/T), and that of the
bibliographic list (639-2/B) if it is another one.
"""

_ENTRIES = [entry.split() for entry in _CODES.replace("\n", " ").split(",")]
_BY_CODE = {code: tuple(code for code in entry if len(code) == 3) for entry in _ENTRIES for code in entry}
"""Any code -> the codes of three letters for the same language, that of the terminology list first."""

_WIDER = {"nob": "nor", "nno": "nor"}
"""The two written forms of Norwegian, which files mostly call Norwegian."""

_APPLE_CODES = """
alb amh ara arm asm aym aze baq bel ben bul bur cat ces chi dan dut dzo eng epo est fin fra geo ger gre grn guj heb
hin hun ice ind ita jav jpn kan kas kaz khm kin kir kor kur lao lat lav lit mac mal mar may mlg mlt mon nep nor nya
ori orm per pol por pus que ron run rus san sin slk slv smi snd som spa swa tam tat tel tgk tgl tha tib tir tuk tur
uig ukr urd uzb vie wel yid
"""
"""Languages of QuickTime's own list (Macintosh language codes) by the names under which FFmpeg 8 writes them to MOV; it
takes no other ones there.
"""

_APPLE = frozenset(_APPLE_CODES.split())

UNKNOWN = "und"


def language_codes(tag: str) -> tuple[str, ...]:
    """The codes of a tag's language, that of ISO 639-2/T first: ("deu", "ger") for de-AT.

    ("und",) for a language without one: an invented code would be worse than none.
    """
    return _BY_CODE.get(tag.lower().partition("-")[0], (UNKNOWN,))


def track_language(tag: str | None, muxer: str) -> str | None:
    """The language of a track in a container of FFmpeg's `muxer`; None where it can write none.

    MP4 has the terminology list, and says `und` for a language without a code and for None. MOV has Apple's list. MXF
    has no language that FFmpeg writes.
    """
    codes = (UNKNOWN,) if tag is None else language_codes(tag)
    if muxer == "mp4":
        return codes[0]
    return next((code for code in codes if muxer == "mov" and code in _APPLE), None)


def same_language(wanted: str, found: str) -> bool:
    """Whether a track's language, in any code, is that of a tag such as pt-BR."""
    short, other = (text.lower().partition("-")[0] for text in (wanted, found))
    if short == other:
        return True
    if short not in _BY_CODE or other not in _BY_CODE:
        return False
    first, second = _BY_CODE[short][0], _BY_CODE[other][0]
    return second in (first, _WIDER.get(first))
