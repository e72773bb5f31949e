"""What is said: short sentences without emotion of their own, in eight languages, written for this project.

Some have gaps for numbers and dates, so that a seed gives one of many thousand texts. Digits are left to espeak-ng.
Japanese is written in kana, as espeak-ng spells Chinese characters.
"""

import numpy as np

SENTENCES: dict[str, tuple[str, ...]] = {
    "en": (
        "The boat moved slowly past the old pier.",
        "Please put the blue folder on my desk.",
        "We usually walk home through the park.",
        "My brother bought a map of the mountains.",
        "The bakery opens before the first bus comes.",
        "Both windows face the small garden.",
        "She keeps her umbrella behind the door.",
        "Warm bread and butter were on the table.",
        "The paper should be back by Wednesday.",
        "A few people were waiting for the ferry.",
        "I found the missing button under the bed.",
        "They paint the fence every other spring.",
        "The museum has moved to another building.",
        "Could you move the chair a bit to the left?",
        "Five brown bottles stood beside the path.",
        "The path follows the river for a while.",
        "Most of the apples came from our village.",
        "He poured the water into a tall glass.",
        "The next meeting is about the new bridge.",
        "You may borrow the map when I have read it.",
        "Maybe we should ask the man at the front desk.",
        "The room above the shop belongs to my father.",
        "Four of us will be there before the others.",
        "The farmer moved the fence by a few feet.",
        "It takes about an hour to prepare the soup.",
        "A wooden bowl of plums was on the shelf.",
        "Her office is at the bottom of the stairs.",
        "The film begins when everybody has a seat.",
        "Those boxes are made of very thin wood.",
        "My phone number has not been changed.",
        "The baker wrapped the bread in brown paper.",
        "Our teacher showed us how glass is made.",
        "The lamp above the mirror needs a new bulb.",
        "Grandmother planted beans beside the wall.",
        "The bus to the beach stops near the bank.",
        "What you see over there is the back of the theatre.",
        "This page describes how the machine works.",
        "Open the map and put your finger on the harbour.",
        "The workers have measured the roof again.",
        "Everybody took a paper cup and some milk.",
    ),
    "de": (
        "Das Boot fuhr langsam am alten Hafen vorbei.",
        "Bitte legen Sie die blaue Mappe auf den Tisch.",
        "Wir gehen meistens durch den Park nach Hause.",
        "Mein Bruder hat eine Karte der Berge gekauft.",
        "Der Bäcker macht vor dem ersten Bus auf.",
        "Beide Fenster gehen auf den kleinen Garten.",
        "Der Regenschirm steht immer hinter der Tür.",
        "Auf dem Tisch lagen Brot, Butter und Äpfel.",
        "Das Papier soll bis Mittwoch zurück sein.",
        "Ein paar Leute warteten am Ufer auf die Fähre.",
        "Den Knopf habe ich unter dem Bett gefunden.",
        "Im Frühling streichen wir den Zaun.",
        "Das Museum ist in ein anderes Haus umgezogen.",
        "Könnten Sie den Stuhl etwas nach links stellen?",
        "Fünf braune Flaschen standen neben dem Weg.",
        "Der Weg folgt eine Weile dem Fluss.",
        "Er goss das Wasser in ein hohes Glas.",
        "Die Suppe braucht ungefähr eine Stunde.",
        "Das Büro liegt am unteren Ende der Treppe.",
        "Die Großmutter pflanzt Bohnen an der Mauer.",
    ),
    "es": (
        "El barco pasó despacio por el puerto viejo.",
        "Ponga la carpeta azul sobre la mesa, por favor.",
        "Casi siempre volvemos a casa por el parque.",
        "Mi hermano compró un mapa de las montañas.",
        "La panadería abre antes del primer autobús.",
        "Las dos ventanas dan a un jardín pequeño.",
        "El paraguas está detrás de la puerta.",
        "En la mesa había pan, miel y manzanas.",
        "El papel tiene que volver antes del miércoles.",
        "Unas personas esperaban el barco en la playa.",
        "Encontré el botón debajo de la cama.",
        "En primavera pintamos la valla del patio.",
        "El museo se ha mudado a otro edificio.",
        "¿Puede mover la silla un poco a la izquierda?",
        "Cinco botellas estaban al lado del camino.",
        "El camino sigue el río durante un rato.",
        "Puso el agua en un vaso muy alto.",
        "La sopa tarda más o menos una hora.",
        "La oficina está al final de la escalera.",
        "La abuela planta tomates junto al muro.",
    ),
    "fr": (
        "Le bateau passait lentement devant le vieux port.",
        "Posez le dossier bleu sur la table, s'il vous plaît.",
        "Nous rentrons souvent à pied par le parc.",
        "Mon frère a acheté une carte des montagnes.",
        "La boulangerie ouvre avant le premier bus.",
        "Les deux fenêtres donnent sur un petit jardin.",
        "Le parapluie est toujours derrière la porte.",
        "Sur la table il y avait du pain et des pommes.",
        "Le papier doit revenir avant mercredi.",
        "Quelques personnes attendaient le bateau.",
        "J'ai trouvé le bouton sous le lit.",
        "Au printemps nous peignons la barrière.",
        "Le musée est maintenant dans un autre bâtiment.",
        "Pouvez-vous bouger la chaise un peu à gauche ?",
        "Cinq bouteilles brunes étaient au bord du chemin.",
        "Le chemin suit la rivière un moment.",
        "Il a versé l'eau dans un grand verre.",
        "La soupe demande à peu près une heure.",
        "Le bureau se trouve en bas de l'escalier.",
        "Ma grand-mère plante des fèves près du mur.",
    ),
    "it": (
        "La barca passava piano davanti al vecchio porto.",
        "Metta la cartella blu sul tavolo, per favore.",
        "Di solito torniamo a casa attraverso il parco.",
        "Mio fratello ha comprato una mappa dei monti.",
        "Il panificio apre prima del primo autobus.",
        "Le due finestre danno su un piccolo giardino.",
        "L'ombrello è sempre dietro la porta.",
        "Sul tavolo c'erano pane, burro e mele.",
        "La carta deve tornare prima di mercoledì.",
        "Alcune persone aspettavano il battello.",
        "Ho trovato il bottone sotto il letto.",
        "In primavera dipingiamo il muro del cortile.",
        "Il museo si è spostato in un altro palazzo.",
        "Può muovere la sedia un poco a sinistra?",
        "Cinque bottiglie stavano accanto al sentiero.",
        "Il sentiero segue il fiume per un po'.",
        "Ha versato l'acqua in un bicchiere alto.",
        "Per la zuppa ci vuole circa un'ora.",
        "L'ufficio è in fondo alle scale.",
        "La nonna pianta fave vicino al muro.",
    ),
    "pt": (
        "O barco passou devagar pelo velho porto.",
        "Ponha a pasta azul em cima da mesa, por favor.",
        "Quase sempre voltamos para casa pelo parque.",
        "O meu irmão comprou um mapa das montanhas.",
        "A padaria abre antes do primeiro autocarro.",
        "As duas janelas dão para um pequeno jardim.",
        "O guarda-chuva está atrás da porta.",
        "Na mesa havia pão, manteiga e maçãs.",
        "O papel deve voltar antes de quarta-feira.",
        "Algumas pessoas esperavam o barco na praia.",
        "Encontrei o botão debaixo da cama.",
        "Na primavera pintamos o muro do pátio.",
        "O museu mudou para outro prédio.",
        "Pode mover a cadeira um pouco para a esquerda?",
        "Cinco garrafas estavam ao lado do caminho.",
        "O caminho segue o rio por algum tempo.",
        "Ele pôs a água num copo muito alto.",
        "A sopa demora mais ou menos uma hora.",
        "O escritório fica ao fundo da escada.",
        "A minha avó planta favas perto do muro.",
    ),
    "ko": (
        "배가 오래된 항구 옆을 천천히 지나갔습니다.",
        "파란 봉투를 책상 위에 놓아 주세요.",
        "우리는 보통 공원을 지나 집에 갑니다.",
        "형이 산의 지도를 샀습니다.",
        "빵집은 첫 버스가 오기 전에 문을 엽니다.",
        "창문 두 개가 작은 마당을 보고 있습니다.",
        "우산은 언제나 문 뒤에 있습니다.",
        "식탁 위에 빵과 물과 사과가 있었습니다.",
        "그 종이는 수요일까지 돌려주세요.",
        "몇 사람이 바닷가에서 배를 기다렸습니다.",
        "침대 밑에서 단추를 찾았습니다.",
        "봄마다 우리는 담을 새로 칠합니다.",
        "박물관은 다른 건물로 옮겼습니다.",
        "의자를 조금 왼쪽으로 옮겨 주시겠어요?",
        "병 다섯 개가 길 옆에 서 있었습니다.",
        "이 길은 한동안 강을 따라갑니다.",
        "그는 큰 컵에 물을 부었습니다.",
        "국을 끓이는 데 한 시간쯤 걸립니다.",
        "사무실은 계단 아래에 있습니다.",
        "할머니는 담 옆에 콩을 심습니다.",
    ),
    "ja": (
        "ふねは ふるい みなとの まえを ゆっくり とおりました。",
        "あおい かばんを つくえの うえに おいて ください。",
        "わたしたちは いつも こうえんを とおって かえります。",
        "あには やまの ちずを かいました。",
        "パンやは さいしょの バスの まえに あきます。",
        "まどは ふたつとも ちいさい にわに むいて います。",
        "かさは いつも ドアの うしろに あります。",
        "テーブルの うえに パンと りんごが ありました。",
        "その かみは すいようびまでに かえして ください。",
        "うみべで なんにんかが ふねを まって いました。",
        "ベッドの したで ボタンを みつけました。",
        "はるには へいを あたらしく ぬります。",
        "はくぶつかんは べつの たてものに うつりました。",
        "いすを すこし ひだりに うごかして もらえますか。",
        "みちの そばに びんが いつつ ならんで いました。",
        "この みちは しばらく かわに そって いきます。",
        "かれは おおきな コップに みずを いれました。",
        "スープを つくるのに いちじかん ぐらい かかります。",
        "じむしょは かいだんの したに あります。",
        "そぼは へいの そばに まめを うえます。",
    ),
}

TEMPLATES: dict[str, tuple[str, ...]] = {
    "en": (
        "The train leaves at {hour} {minute} from platform {small}.",
        "There were {number} people at the meeting on the {day}th of {month}.",
        "Room {number} is on floor {small}.",
        "We have sold {number} maps and {small} books since {month}.",
    ),
    "de": (
        "Der Zug fährt um {hour} Uhr {minute} von Gleis {small} ab.",
        "Im {month} waren {number} Menschen beim Treffen.",
        "Zimmer {number} liegt im Stockwerk {small}.",
        "Seit {month} haben wir {number} Karten und {small} Bücher verkauft.",
    ),
    "es": (
        "El tren sale a las {hour} y {minute} de la vía {small}.",
        "El {day} de {month} había {number} personas en la sala.",
        "La habitación {number} está en el piso {small}.",
        "Desde {month} hemos vendido {number} mapas y {small} libros.",
    ),
    "fr": (
        "Le train part à {hour} heures {minute} de la voie {small}.",
        "Le {day} {month}, il y avait {number} personnes dans la salle.",
        "La chambre {number} est au niveau {small}.",
        "Depuis {month} nous avons vendu {number} cartes et {small} livres.",
    ),
    "it": (
        "Il treno parte alle {hour} e {minute} dal binario {small}.",
        "Il {day} {month} c'erano {number} persone nella sala.",
        "La camera {number} è al piano {small}.",
        "Da {month} abbiamo venduto {number} mappe e {small} libri.",
    ),
    "pt": (
        "O comboio parte às {hour} e {minute} da linha {small}.",
        "No dia {day} de {month} havia {number} pessoas na sala.",
        "O quarto {number} fica no andar {small}.",
        "Desde {month} vendemos {number} mapas e {small} livros.",
    ),
    "ko": (
        "기차는 {hour}시 {minute}분에 {small}번 선에서 떠납니다.",
        "{month} {day}일 모임에 {number}명이 왔습니다.",
        "{number}호 방은 {small}층에 있습니다.",
        "{month}부터 지도 {number}장과 책 {small}권을 팔았습니다.",
    ),
    "ja": (
        "でんしゃは {hour}じ {minute}ふんに {small}ばんから でます。",
        "{month} {day}にちに {number}にんが きました。",
        "{number}ごうしつは {small}かいに あります。",
        "{month}から ちずを {number}まいと ほんを {small}さつ うりました。",
    ),
}
"""Gaps: hour 1-12, minute 10-59, small 2-9, number 11-999, day 10-20, month of `MONTHS`."""

MONTHS: dict[str, str] = {
    "en": "January February March April May June July August September October November December",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "it": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "pt": "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
    "ko": "1월 2월 3월 4월 5월 6월 7월 8월 9월 10월 11월 12월",
    "ja": "1がつ 2がつ 3がつ 4がつ 5がつ 6がつ 7がつ 8がつ 9がつ 10がつ 11がつ 12がつ",
}

TEMPLATE_SHARE = 0.3
"""Of the sentences, those with numbers and dates."""


def draw_text(language: str, seed: int, sentences: int = 2) -> str:
    """A text of so many different sentences; the same seed gives the same text. About 2.5 s of speech a sentence.

    Raises ValueError for a language without sentences, or more of them than there are.
    """
    if language not in SENTENCES:
        raise ValueError(f"language must be one of {', '.join(SENTENCES)}, got {language!r}")
    most = min(len(SENTENCES[language]), len(TEMPLATES[language]))
    if not 1 <= sentences <= most:
        raise ValueError(f"sentences must be 1 to {most}, got {sentences}")
    rng = np.random.default_rng([seed, 0])
    filled = int(rng.binomial(sentences, TEMPLATE_SHARE))
    chosen = [*_pick(SENTENCES[language], sentences - filled, rng)]
    chosen += [_fill(template, language, rng) for template in _pick(TEMPLATES[language], filled, rng)]
    return " ".join(chosen[i] for i in rng.permutation(sentences))


def _pick(texts: tuple[str, ...], count: int, rng: np.random.Generator) -> list[str]:
    return [texts[i] for i in rng.choice(len(texts), count, replace=False)]


def _fill(template: str, language: str, rng: np.random.Generator) -> str:
    months = MONTHS[language].split()
    return template.format(
        hour=rng.integers(1, 13),
        minute=rng.integers(10, 60),
        small=rng.integers(2, 10),
        number=rng.integers(11, 1000),
        day=rng.integers(10, 21),
        month=months[rng.integers(len(months))],
    )
