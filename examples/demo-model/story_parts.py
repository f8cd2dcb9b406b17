"""The words of the stories: names, kinds, places and, for each shape, what may happen in it.

Every sentence here was written for this project. Templates use two marks:

    [a|b|c]   one of the alternatives, each equally likely; may be nested, may be empty
    {fact}    a fact of the story; `{Fact}` is the same with a capital first letter

Facts of the hero: n (name), k (kind), he, him, his, place, ground. Facts of the other character: f
(name), fk (kind), fhe, fhim, fhis. Facts may hold templates themselves.
"""

GIRLS = ("Mila Nora Tilda Ivy Rosa Pia Junie Lotte "
         "Hazel Dora Fern Clara Wanda Elsa Maya Greta").split()
BOYS = ("Otto Finn Bram Jonas Milo Theo Rufus Pip "
        "Oskar Hugo Emil Tam Basil Nico Ludo Jasper").split()

# Heroes walk on the ground: they neither fly, nor dive, nor dig, so that every trouble is a trouble
# for them. A child is told as a girl or a boy.
HEROES = "fox hedgehog mouse hare bear lamb piglet pony kitten puppy child child".split()

FLYER = "crow heron swallow stork magpie".split()
SWIMMER = "otter duck beaver swan turtle".split()
DIGGER = "mole badger rabbit".split()
CARRIER = "donkey ox goat horse".split()
WISE = "tortoise owl toad raven".split()
SINGER = "cricket nightingale blackbird fiddler".split()
CARPENTER, MILLER, BAKER, SMITH = ["carpenter"], ["miller"], ["baker"], ["blacksmith"]
TAILOR, GARDENER, SAILOR, SHOEMAKER = ["tailor", "weaver"], ["gardener"], ["sailor"], ["shoemaker"]
BEEKEEPER, FIREFLY = ["beekeeper"], ["firefly"]

# (where somebody lives, what that ground is called afterwards)
PLACES = [
    ("in a quiet wood", "wood"), ("at the edge of a deep forest", "forest"),
    ("by a slow green river", "valley"),
    ("in a village between two hills", "village"), ("on a farm with a red barn", "farm"),
    ("in a house beside an old mill", "village"), ("at the foot of a tall mountain", "valley"),
    ("in a garden with a stone wall", "garden"), ("near a lake full of lilies", "valley"),
    ("in a small town with a clock tower", "town"), ("under the roots of a great oak", "wood"),
    ("on a windy hill", "hill"),
]

OPENING = (
    "[Once upon a time there was a [little|small|young] {k} [named|called] {n}, who lived {place}. "
    "|Once upon a time[,|, long ago,] {place}, there lived a [little|small|young] {k} [named"
    "|called] {n}. "
    "|Once upon a time a [little|small|young] {k} [named|called] {n} lived {place}. "
    "|There was once a [little|small|young] {k} [named|called] {n}, who lived {place}. "
    "|{Place} there lived a [little|small|young] {k} [named|called] {n}. "
    "|Long ago, {place}, there lived a [little|small|young] {k} [named|called] {n}. "
    "|{N} was a [little|small|young] {k} who lived {place}. "
    "|{N} the {k} lived {place}. ]"
)

FEELING = (
    "[{N} sat down on a stone and sighed.|{N} felt very small."
    "|{N} was sad and did not know what to do."
    "|A tear ran down the nose of the little {k}.|{N} tried and tried, but it was no use."
    "|\"What can I do?\" {he} thought.|{N} almost gave up.]"
)

MEETING = (
    "[Just then|At that moment|Soon after|That afternoon|The next morning] "
    "[an old|a kind|a friendly|a cheerful|a gentle] {fk} named {f} came [by|along the path"
    "|down the road]. "
    "\"[Why are you so sad|What is the matter|Why do you sigh|Can I help you], [little {k}"
    "|little one|my friend]?\" "
    "[asked {f}|{fhe} asked|asked the {fk}]."
)

CLOSING = (
    "[From that day on, {n} and {f} were [good|the best of] friends."
    "|And {n} and {f} stayed friends for many years."
    "|That night {n} fell asleep with a smile.|That night {n} slept well and dreamed sweet dreams."
    "|{N} never forgot the kindness of {f}.|\"Thank you, {f},\" said {n}. \"[I am so happy"
    "|You are a true friend].\""
    "|And {n} was happy, and so was {f}.|\"A friend makes [every road shorter"
    "|hard things easy],\" said {f}, and {n} agreed."
    "|And if you ask {n} about it today, {he} will tell you the whole story.]"
)

# ------------------------------------------------------------------------------------------------
# Shape 1: a wish. Each wish has its dream, its ways (trouble, who can help, what the helper says,
# what they do) and its end.
WISHES = [
    dict(wish="to see the sea",
         dream="{His} grandmother had told {him} about [the waves|the white foam|the tall ships].",
         ways=[("But the sea was far away, and {he} did not know the road.", WISE,
                "\"Every river runs to the sea,\" said {f}. \"We only have to follow the water.\"",
                "So they walked beside the river [until evening"
                "|for two days], and the air began to smell of salt."),
               ("But the hills were steep, and {his} legs were short.", CARRIER,
                "\"Climb on my back,\" said {f}. \"Hills do not frighten me.\"",
                "So {n} held on tight, and up and up they went.")],
         end="From the top of the last hill {n} saw the sea, [wide and blue|shining like silver]. "
             "{He} ran down to the sand and let the waves tickle {his} [feet|toes]."),
    dict(wish="to touch a cloud",
         dream="{He} thought that clouds must be as soft as [wool|feathers|snow].",
         ways=[("But the clouds were high, and even the tallest tree did not reach them.", WISE,
                "\"Get up early tomorrow,\" said {f}. \"Fog is a cloud that comes down to rest.\"",
                "In the morning the whole {ground} was white with fog, and {f} led {n} right into "
                "it."),
               ("But the clouds never came down from the mountain.", CARRIER,
                "\"Then we will go up to them,\" said {f}. \"I know a path.\"",
                "They climbed [all morning|for a whole day], and at last the clouds were all "
                "around them.")],
         end="{N} put out a hand. The cloud was [cool and wet"
             "|soft and cool], and it left small drops "
             "on {his} nose. \"I am touching a cloud!\" {he} laughed."),
    dict(wish="to sing a song",
         dream="Every evening {he} listened to the birds and [hummed a little|tapped {his} foot].",
         ways=[("But when {he} opened {his} mouth, only a squeak came out.", SINGER,
                "\"You sing too fast,\" said {f}. \"Breathe first, and then sing one note at a "
                "time.\"",
                "{N} took a deep breath and sang one note, and then two, and then three."),
               ("But {he} always forgot the tune.", SINGER,
                "\"A tune is like a path,\" said {f}. \"We will walk it together, step by step.\"",
                "They sang the first line ten times, and then the second, until {n} knew them "
                "all.")],
         end="That evening {n} sang [under the stars|by the fire], and the song was clear and "
             "sweet. "
             "[Even the wind stopped to listen.|Everyone came out to listen.]"),
    dict(wish="to cross the river",
         dream="On the other side there was a meadow full of [yellow flowers|sweet red berries].",
         ways=[("But the water was deep, and {he} could not swim.", SWIMMER,
                "\"Hold on to me,\" said {f}. \"I have crossed this river a hundred times.\"",
                "{N} held on tight, and they slid through the cool water to the other side."),
               ("But the old bridge had fallen in the storm.", CARPENTER,
                "\"A bridge can be mended,\" said {f}. \"You hold the boards, and I will use the "
                "hammer.\"",
                "They worked until sunset, and the new bridge was strong and straight.")],
         end="Then {n} stood in the meadow at last, and {he} [danced in the grass"
             "|rolled in the soft grass]."),
    dict(wish="to fly",
         dream="All day long {he} watched the swallows [above the roofs|high in the sky].",
         ways=[("But {he} had no wings.", CARPENTER,
                "\"You do not need wings,\" said {f}. \"You need a swing.\"",
                "{F} took two ropes and a board, and hung a swing from the highest branch of the "
                "oak."),
               ("But {he} had no wings, and jumping did not help.", TAILOR,
                "\"I have a big sheet and some string,\" said {f}. \"Let us make wings for the "
                "wind to lift.\"",
                "They sewed all day, and then {n} ran down the hill with the wings spread wide.")],
         end="Up went {n}, up into the blue air, and {his} heart was as light as a feather. "
             "\"I am flying!\" {he} called."),
    dict(wish="to grow a sunflower",
         dream="{He} had one seed, and {he} kept it in [a little box|{his} pocket].",
         ways=[("But the ground was as hard as stone.", DIGGER,
                "\"Digging is what I do best,\" said {f}. \"Show me the place.\"",
                "{F} dug until the earth was soft, and {n} put the seed in gently."),
               ("But the days went by, and nothing came out of the ground.", GARDENER,
                "\"Give it water and give it time,\" said {f}. \"A seed cannot be hurried.\"",
                "So every morning {n} brought a little water and waited.")],
         end="One day a green leaf came up, and by summer the sunflower was [taller than the door"
             "|as tall as the wall]. "
             "Its face was as bright as the sun."),
    dict(wish="to have a lantern",
         dream="The nights were long, and {he} wanted to read [by its light|in bed].",
         ways=[("But a lantern cost three coins, and {he} had none.", SMITH,
                "\"Sweep my shop for three days,\" said {f}, \"and I will make you one.\"",
                "So {n} swept every corner for three days, and did not rest until the floor "
                "shone."),
               ("But there was no lantern in the whole {ground}.", FIREFLY,
                "\"I am small, but I am bright,\" said {f}. \"Put a glass by your bed, and I will "
                "sit in it.\"",
                "{N} found a clean glass and set it by the bed.")],
         end="That night a warm golden light filled the room, and {n} [read until midnight"
             "|was not alone in the dark]."),
    dict(wish="to see the stars",
         dream="{He} had heard that there were more of them than [leaves in the forest"
               "|drops in the sea].",
         ways=[("But the trees were so thick that {he} could not see the sky.", FLYER,
                "\"I know a place where the trees stand apart,\" said {f}. \"Follow me.\"",
                "{F} flew ahead, and {n} ran behind, until they came to an open field."),
               ("But the lamps of the houses were too bright.", MILLER,
                "\"Come up to the top of my mill,\" said {f}. \"It is dark and high up there.\"",
                "They climbed the long stairs, and {f} opened the little window in the roof.")],
         end="There they were, thousands and thousands of stars. {N} counted [to one hundred"
             "|until {he} was sleepy], "
             "and one of them fell right across the sky."),
    dict(wish="to bake bread",
         dream="{He} loved the smell of a warm loaf [in the morning|more than anything].",
         ways=[("But the sack of flour was empty.", MILLER,
                "\"Bring me some grain, and my stones will grind it,\" said {f}.",
                "{N} gathered the grain, the great stones turned, and soon the sack was full of "
                "soft flour."),
               ("But {his} bread came out as flat as a plate.", BAKER,
                "\"The dough must sleep before it goes into the oven,\" said {f}. \"Cover it and "
                "wait.\"",
                "They put the dough in a warm corner, and slowly it grew and grew.")],
         end="The bread came out [round and golden|brown and warm]. {N} broke it in two and gave "
             "half to {f}."),
    dict(wish="to find a friend",
         dream="{He} played alone every day and talked to [{his} shadow|the stones].",
         ways=[("But {he} was shy and hid when somebody came.", WISE + CARRIER,
                "\"I am shy too,\" said {f}. \"Let us be shy together.\"",
                "They sat side by side and said nothing at first. Then they both began to laugh."),
               ("But everybody was busy, and nobody had time to play.", FLYER + DIGGER,
                "\"I have time,\" said {f}. \"Do you know how to play hide and seek?\"",
                "{N} hid behind a tree, and {f} counted to ten and found {him}.")],
         end="They played until the sun went down. \"Will you come again tomorrow?\" asked {n}. "
             "\"[Tomorrow and every day|Of course I will],\" said {f}."),
    dict(wish="to dance at the summer feast",
         dream="There would be [drums and lights|music and cake], and everyone would be there.",
         ways=[("But {he} always tripped over {his} own feet.", SINGER,
                "\"Do not look at your feet,\" said {f}. \"Listen to the music, and your feet "
                "will follow.\"",
                "{F} played a slow tune, and {n} stepped left and right, left and right."),
               ("But {his} shoes were full of holes.", SHOEMAKER,
                "\"Give me your shoes,\" said {f}. \"In one hour they will be like new.\"",
                "Tap, tap, tap went the hammer, and the holes were gone.")],
         end="When the feast began, {n} danced [until the moon was high"
             "|every dance], and everybody clapped."),
    dict(wish="to sail a boat",
         dream="{He} wanted to see where the [river|stream] went after the last bend.",
         ways=[("But {he} had no boat.", CARPENTER,
                "\"I have old boards and new nails,\" said {f}. \"That makes a boat.\"",
                "They sawed and hammered for three days and painted the boat [blue|red]."),
               ("But there was no wind, and the boat would not move.", SWIMMER,
                "\"Throw me the rope,\" said {f}. \"I will pull you until the wind wakes up.\"",
                "{F} pulled the boat out to the middle, and soon a breeze filled the sail.")],
         end="Away they went, past [the willows|the mill] and around the last bend. "
             "\"I am the captain!\" cried {n}, and {he} waved {his} hat."),
    dict(wish="to taste honey",
         dream="Everyone said that honey tasted like [summer|sunshine].",
         ways=[("But the bees buzzed loudly when {he} came near.", BEEKEEPER,
                "\"Walk slowly and speak softly,\" said {f}. \"Bees are kind to quiet guests.\"",
                "So {n} walked slowly and asked the bees in a very soft voice."),
               ("But the hive was at the top of a tall tree.", FLYER,
                "\"The bees are my neighbors,\" said {f}. \"I will ask them for a little piece.\"",
                "{F} flew up to the hive and came back with a golden piece of honeycomb.")],
         end="{N} put one drop on {his} tongue. It was [sweet and warm"
             "|better than {he} had dreamed], and {he} "
             "shared the rest with {f}."),
    dict(wish="to win the race",
         dream="The race went around the [pond|mill], and the prize was a [red ribbon"
               "|big apple pie].",
         ways=[("But {he} always ran too fast at first and was tired at the end.", WISE,
                "\"Start slowly,\" said {f}. \"Keep your strength for the last hill.\"",
                "On the day of the race {n} started slowly, and at the last hill {he} began to "
                "run."),
               ("But {he} was the slowest of all.", CARRIER,
                "\"Run with me every morning,\" said {f}. \"Legs grow strong when you use them.\"",
                "Every morning they ran together, a little farther each day.")],
         end="{N} [passed one runner after another|ran like the wind] and was the first to reach "
             "the line. "
             "The prize was big enough for two, so {he} shared it with {f}."),
    dict(wish="to hear a story",
         dream="{He} liked stories [with dragons|about far lands] best of all.",
         ways=[("But everybody was too busy to tell one.", WISE,
                "\"I am old, and I know a hundred stories,\" said {f}. \"Sit down beside me.\"",
                "{N} sat down, and {f} began to speak in a slow, deep voice."),
               ("But {he} had heard every story in the {ground} already.", SAILOR,
                "\"I have been to the other side of the world,\" said {f}. \"My stories are all "
                "new.\"",
                "So {f} lit a small fire and told {n} about the islands far away.")],
         end="The story was [long and wonderful|about a king who lost his crown], and {n} did not "
             "move until the last word. "
             "\"Tell it again!\" {he} said."),
    dict(wish="to see the snow",
         dream="{His} cousin had told {him} that snow was [white and quiet"
               "|like feathers from the sky].",
         ways=[("But it never snowed in the warm {ground}.", CARRIER,
                "\"There is snow on the mountain,\" said {f}. \"Get on my back, and I will take "
                "you there.\"",
                "They climbed for a whole day, and the air grew colder and colder."),
               ("But every winter {he} was fast asleep when the snow came.", WISE,
                "\"I will wake you this time,\" said {f}. \"That is a promise.\"",
                "In the middle of winter {f} knocked on the door three times, and {n} jumped out "
                "of bed.")],
         end="The whole world was white. {N} [made a snowball"
             "|caught a snowflake] and laughed out loud."),
    dict(wish="to build a house",
         dream="It would have a round door and [a blue roof|two windows].",
         ways=[("But every time the wind blew, the walls fell down.", ["beaver"] + CARPENTER,
                "\"Put mud between the sticks,\" said {f}. \"Then the wind can push all day.\"",
                "They pressed mud into every gap and let it dry in the sun."),
               ("But the stones were too heavy to lift.", CARRIER,
                "\"Heavy stones are light for me,\" said {f}. \"Tell me where you want them.\"",
                "{F} pulled the stones, and {n} put them in a neat row, one upon another.")],
         end="The house stood firm, and there was room for [two chairs and a pot of soup"
             "|a table and a big bed]. "
             "{F} was the first guest."),
    dict(wish="to ring the big bell",
         dream="Its voice was so deep that [the windows shook|the hills sang back].",
         ways=[("But the rope hung too high.", FLYER,
                "\"High is where I live,\" said {f}. \"I will bring the rope down to you.\"",
                "{F} flew up, took the end of the rope and brought it down."),
               ("But the rope hung too high.", CARRIER,
                "\"Stand on my back,\" said {f}. \"Then you will reach it.\"",
                "{N} climbed up, stretched, and just caught the end of the rope.")],
         end="{N} pulled with all {his} might. Dong, dong, went the bell, and everyone in the "
             "{ground} looked up and smiled."),
]

WISH_LINE = (
    "[[More than anything, {n}|{N}] wanted {wish}.|What {n} wanted most [of all"
    "|in the world] was {wish}."
    "|{N} had one [big|great] wish: {he} wanted {wish}.|Every day {n} said, \"I want {wish}.\"]"
)


# ------------------------------------------------------------------------------------------------
# Shape 2: a lost thing. Small things sink and roll, light things fly and catch; each is found
# accordingly.
SMALL_THINGS = [
    ("silver bell", "{N} rang the bell, and its clear voice [ran over the hills|filled the air]."),
    ("blue button", "{N} sewed the button back on {his} coat, and [never lost it again"
                    "|this time with a double thread]."),
    ("brass key", "{N} opened the old music box with the key, and a sweet tune began to play."),
    ("glass marble", "{N} held the marble up to the sun, and it was full of [little rainbows"
                     "|green and gold light]."),
    ("tin whistle", "{N} played a merry tune on the whistle, and {f} [danced|hummed along]."),
    ("lucky stone", "{N} closed {his} hand around the stone, and it felt [warm|smooth] and safe."),
]
LIGHT_THINGS = [
    ("red kite", "{N} let the kite fly again, high above the {ground}, and {f} held the string "
                 "too."),
    ("yellow hat", "{N} put the hat on again, and it was [as good as new|only a little wet]."),
    ("green scarf", "{N} wrapped the scarf around {his} neck, and it was [soft|warm] as before."),
    ("paper boat", "{N} let the boat sail in a bowl at home, where no wind could take it."),
    ("white ribbon", "{N} tied the ribbon in a bow, and it [shone in the sun|danced in the wind]."),
    ("long feather", "{N} put the feather in {his} cap, and [it looked very fine"
                     "|walked like a king]."),
]
# (how it went, who can help, what the helper says, how it is found)
SMALL_SPOTS = [
    ("[rolled down the bank and fell into the pond|slipped from {his} hand and fell into the deep "
     "pond]", SWIMMER,
     "\"The pond is my home,\" said {f}. \"I will look at the bottom.\"",
     "{F} dived down, once, twice, three times, and came up with the {item}."),
    ("[rolled away and fell into a dark hole|fell through a crack in the ground]", DIGGER,
     "\"I know every tunnel here,\" said {f}. \"Wait a little.\"",
     "Earth flew to the left and to the right, and then {f} came out of the ground with the "
     "{item}."),
    ("fell [somewhere in the tall grass|into the big pile of hay]", CARRIER,
     "\"Grass and hay are my supper,\" said {f}. \"I will eat until we see it.\"",
     "{F} ate and ate, and at last something shone on the ground. It was the {item}."),
]
LIGHT_SPOTS = [
    ("[flew away in the wind and caught at the top of a tall tree"
     "|was taken by the wind and hung in the highest tree]", FLYER,
     "\"No tree is too tall for me,\" said {f}.",
     "{F} flew up through the leaves and came down with the {item}."),
    ("[flew away in the wind and fell into the river|was taken by the wind and blown into the "
     "river]", SWIMMER,
     "\"The water cannot run faster than I can swim,\" said {f}.",
     "{F} swam after it, around one bend and then another, and came back with the {item}."),
    ("[flew away in the wind and caught in a thorn bush|was taken by the wind and blown into a "
     "thorn bush]", TAILOR,
     "\"I am used to needles,\" said {f}. \"Thorns do not frighten me.\"",
     "With careful fingers {f} took away one thorn after another and pulled out the {item}."),
]


# ------------------------------------------------------------------------------------------------
# Shape 3: a fear. The friend is in need, and the hero is brave for the friend's sake.
FEARS = [
    dict(fear="the dark", sign="At night {he} [hid under the blanket|kept a candle by the bed].",
         need="One evening {f} did not come home. {F} had lost the way in the dark wood, and {n} "
              "heard {fhim} calling.",
         brave="{N} took a [small lamp|candle] and walked into the dark. {He} sang a song so that "
               "{his} heart would not beat so loud.",
         end="Soon {he} found {f} under a tree, and they went home hand in hand. \"The dark is "
             "only the day with its eyes closed,\" said {n}."),
    dict(fear="deep water", sign="{He} never went farther in than {his} [knees|toes].",
         need="One day {f} fell into the river and held on to a branch. \"Help!\" {fhe} cried.",
         brave="{N} was shaking, but {he} took a long rope, tied it to a tree and stepped into "
               "the cold water, one step and then another.",
         end="{He} threw the rope to {f} and pulled {fhim} to the shore. \"You went into the deep "
             "water for me,\" said {f}. "
             "\"I did not think about the water,\" said {n}. \"I thought about you.\""),
    dict(fear="thunder", sign="When the sky rumbled, {he} [put a pillow over {his} ears"
                              "|crept under the table].",
         need="One night a great storm came. {F} was out in the field all alone and did not dare "
              "to move.",
         brave="{N} looked at the black sky. Then {he} ran out into the rain, and {he} counted "
               "loudly after every flash.",
         end="{He} took {f} by the hand and brought {fhim} into the warm kitchen. They drank hot "
             "milk and listened to the thunder, "
             "and together it was only a noise."),
    dict(fear="high places", sign="{He} would not even [stand on a chair|climb a ladder].",
         need="One day {f} climbed to the top of the old wall and could not get down again. \"I "
              "am stuck!\" {fhe} called.",
         brave="{N} took a ladder and put it against the wall. {He} did not look down. {He} "
               "looked only at the next step, and the next.",
         end="{He} helped {f} down, one step at a time. When both stood on the grass, {n} looked "
             "up and said, \"It was not so high after all.\""),
    dict(fear="the big gray goose", sign="The goose hissed at everyone who passed [the gate"
        "|the pond].",
         need="One day the goose stood in front of {f} and would not let {fhim} pass. {F} began "
              "to cry.",
         brave="{N} walked up to the goose on shaking legs. \"Good morning,\" {he} said, and held "
               "out a piece of bread.",
         end="The goose stopped hissing and ate from {his} hand. \"She was only hungry,\" said "
             "{n}. After that the goose always nodded to {n} and {f}."),
    dict(fear="strangers", sign="When somebody new came, {he} hid behind [the door|a tree].",
         need="One day {f} was ill, and only the doctor in the next village could help.",
         brave="{N} ran to the next village and knocked on the door of the doctor, though {he} "
               "had never seen her before. "
               "\"Please come,\" {he} said in a small voice.",
         end="The doctor smiled and came at once, and the next day {f} was well again. "
             "\"Strangers are only friends that I do not know yet,\" said {n}."),
    dict(fear="the empty house", sign="Everyone said that [a ghost|something] lived in it.",
         need="One day {f} threw a ball through its window and went in to find it. The door fell "
              "shut behind {fhim}.",
         brave="{N} heard {f} knocking. {He} took a deep breath, walked through the dusty garden "
               "and pushed the door with all {his} might.",
         end="The door flew open, and out came {f}, and behind {fhim} a [gray cat"
             "|small owl]. \"There is your ghost,\" said {n}, and they both laughed."),
    dict(fear="the long bridge", sign="It swung in the wind, and {he} always [turned back"
        "|stayed on this side].",
         need="One day {f} stood in the middle of the bridge and did not dare to go on or back.",
         brave="{N} put one foot on the bridge, and then the other. {He} looked at {f} and not at "
               "the river below.",
         end="{He} took the hand of {f}, and they walked to the end together. \"With you it does "
             "not swing so much,\" said {f}."),
]


# ------------------------------------------------------------------------------------------------
# Shape 4: a quarrel over one thing, and a way to share it.
QUARRELS = [
    dict(item="honey cake", found="On the table there was one last honey cake.",
         harm="They pulled at the plate, and the cake fell on the floor and broke in two.",
         idea="\"Look,\" said {n}, \"now there are two pieces. One for you and one for me.\"",
         end="They ate their pieces side by side, and [both were sweet|not a crumb was left]."),
    dict(item="red sled", found="After the first snow they found an old red sled in the barn.",
         harm="They both pulled the rope, and the sled slid down the hill without them.",
         idea="\"It is long enough for two,\" said {n}. \"You steer, and I will push.\"",
         end="Down the hill they flew together, and [the snow sprayed to both sides"
             "|they laughed all the way down]."),
    dict(item="swing", found="Somebody had hung a new swing from the old apple tree.",
         harm="They pushed each other so hard that both fell into the grass.",
         idea="\"Let us count to twenty,\" said {n}. \"You swing while I count, and then I swing "
              "while you count.\"",
         end="They counted and swung until the stars came out, and [learned their numbers very "
             "well|nobody was first and nobody was last]."),
    dict(item="umbrella", found="It began to rain, and there was only one umbrella.",
         harm="They pulled at it from both sides until they were both wet.",
         idea="\"If we walk close together,\" said {n}, \"it is big enough for two.\"",
         end="So they walked home arm in arm, and [the rain drummed a song above them"
             "|only their toes got wet]."),
    dict(item="blue ball", found="In the grass they found a blue ball.",
         harm="They both grabbed it, and the ball jumped away and rolled into the ditch.",
         idea="\"A ball is no fun alone,\" said {n}. \"I will throw, and you will catch.\"",
         end="They threw and caught until supper, and [the ball was happy too"
             "|they did not drop it once]."),
    dict(item="big pumpkin", found="In the garden they had grown one big pumpkin.",
         harm="They argued so long that the soup pot was still empty when the sun went down.",
         idea="\"Let us make soup from it,\" said {n}. \"A whole pot, enough for everyone.\"",
         end="They cooked the soup together, and [all the neighbors came with their spoons"
             "|it was the best soup of the year]."),
    dict(item="picture book", found="Under the stairs they found an old picture book.",
         harm="They pulled at it, and a page tore with a sad little sound.",
         idea="\"I am sorry,\" said {n}. \"Let us mend the page, and then I will read, and you "
              "will turn the pages.\"",
         end="They sat close together by the fire and read about [a dragon who was afraid of mice"
             "|a ship that sailed to the moon]."),
    dict(item="warm blanket", found="The night was cold, and there was only one warm blanket.",
         harm="They pulled it here and there, and nobody slept at all.",
         idea="\"We are both cold,\" said {n}, \"but two friends under one blanket are warm.\"",
         end="They lay back to back under the blanket, and soon they were [both asleep"
             "|warm from nose to toes]."),
]


# ------------------------------------------------------------------------------------------------
# Shape 5: a kindness that comes back. The small one's gift fits the trouble that comes later.
KINDNESSES = [
    dict(kind="bee", plight="a bee named {f}, who had fallen into a bowl of water",
         rescue="{N} held out a leaf, and the bee climbed up and dried {fhis} wings in the sun.",
         later="In winter {n} had a bad cough, and [nothing helped|nobody knew what to do].",
         repay="Then {f} came to the window with a drop of golden honey. \"Put this in your "
               "tea,\" said the bee.",
         end="{N} drank the tea, and the next morning the cough was gone."),
    dict(kind="spider", plight="a spider named {f}, whose web hung right across the door",
         rescue="{N} did not break the web. {He} used the back door all summer long.",
         later="In autumn {n} tore a big hole in {his} only coat, and the wind was [cold|sharp].",
         repay="\"I can sew better than anyone,\" said {f}, and all night long the spider went up "
               "and down, up and down.",
         end="In the morning the hole was closed with a thread as fine as silk."),
    dict(kind="firefly", plight="a firefly named {f}, who was caught in a jar",
         rescue="{N} opened the lid and let the firefly go. \"Fly home,\" {he} said.",
         later="Some weeks later {n} lost the way in the forest, and it was [as black as ink"
               "|a night without a moon].",
         repay="Then a small light danced in front of {him}. It was {f}. \"Follow me,\" said the "
               "firefly.",
         end="{N} followed the light, over roots and stones, and it led {him} straight to {his} "
             "own door."),
    dict(kind="sparrow", plight="a sparrow named {f}, who had nothing to eat in the snow",
         rescue="{N} put bread crumbs on the window every morning until spring.",
         later="In summer {n} planted cabbages, but [hungry caterpillars"
               "|little green caterpillars] began to eat them all.",
         repay="\"Leave that to us,\" said {f}, and the sparrow came with all {fhis} brothers and "
               "sisters.",
         end="By evening there was not one caterpillar left, and {n} had cabbages for the whole "
             "winter."),
    dict(kind="ant", plight="an ant named {f}, who was pulling a crumb that was much too heavy",
         rescue="{N} put the crumb and the ant on a leaf and carried both of them home.",
         later="In autumn {n} dropped a bag of seeds, and they rolled [under every stone"
               "|into every crack].",
         repay="\"We will find them,\" said {f}, and a hundred ants came in a long line, each "
               "with one seed.",
         end="Soon every seed was back in the bag, and not one was missing."),
    dict(kind="fish", plight="a fish named {f}, who was caught in a small puddle when the river "
                             "went down",
         rescue="{N} carried the fish back to the river in a bucket.",
         later="Later {n} dropped {his} mother's ring into the river, and [it sank at once"
               "|the water was deep].",
         repay="Then a head came out of the water. It was {f}, and the fish had the ring in "
               "{fhis} mouth.",
         end="\"You carried me home once,\" said {f}, \"and now I have brought you this.\""),
    dict(kind="snail", plight="a snail named {f}, who was sitting in the middle of the road",
         rescue="{N} picked up the snail and put {fhim} in the wet grass on the other side, "
                "before a cart came by.",
         later="The next week {n} was running to the market so fast that {he} [nearly fell into a "
               "deep hole|did not see the broken bridge].",
         repay="\"Stop!\" called a small voice. It was {f}, who sat by the road. \"Look before "
               "you run,\" said the snail.",
         end="{N} stopped just in time, and after that {he} walked a little slower and saw a lot "
             "more."),
    dict(kind="mouse", plight="a mouse named {f}, who was wet and cold from the rain",
         rescue="{N} gave the mouse a warm corner by the stove and a piece of cheese.",
         later="One day {n} was caught in an old net, and [the knots were tight"
               "|the more {he} pulled, the tighter it grew].",
         repay="Then {f} came running. \"Hold still,\" said the mouse, and {fhe} began to bite "
               "through the ropes, one by one.",
         end="Soon the net fell open, and {n} was free."),
]


# ------------------------------------------------------------------------------------------------
# Shape 6: a gift. Something is missing, somebody who has it gives it, and the gift is given.
GIFTS = [
    dict(gift="apple pie", make="bake an apple pie", missing="the apples hung high in the tree",
        helpers=FLYER,
         help="\"I will shake the branch for you,\" said {f}, and soon red apples lay everywhere "
              "in the grass.",
         work="{N} cut the apples and put the pie in the oven, and it smelled [of sugar and "
              "cinnamon|sweet and warm].",
         thanks="It tastes like autumn"),
    dict(gift="quilt", make="sew a quilt", missing="there was not enough thread", helpers=TAILOR,
         help="\"Take this thread,\" said {f}. \"I have more than I need.\" And {fhe} gave {n} a "
              "big ball of thread.",
         work="{N} sewed one square after another, [red and blue"
              "|green and yellow], until the quilt was as wide as the bed.",
         thanks="I will never be cold again"),
    dict(gift="flower crown", make="make a flower crown", missing="all the flowers by the road "
        "were dry", helpers=GARDENER,
         help="\"Come into my garden,\" said {f}. \"Take one flower of every color.\"",
         work="{N} wove the flowers together, [roses and daisies"
              "|blue ones and white ones], and not one fell out.",
         thanks="I feel like a queen"),
    dict(gift="loaf of bread", make="bake a loaf of bread", missing="there was no flour in the "
        "house", helpers=MILLER,
         help="\"Hold out your bag,\" said {f}, and the old mill turned until the bag was full.",
         work="{N} pressed the dough and baked it, and the crust was [brown and crisp"
              "|shining like gold].",
         thanks="It is still warm"),
    dict(gift="wooden chair", make="build a wooden chair", missing="one leg was always too short",
        helpers=CARPENTER,
         help="\"Measure twice and cut once,\" said {f}, and {fhe} showed {n} how to do it.",
         work="{N} measured twice and cut once, and the chair stood [firm on all four legs"
              "|as straight as a tree].",
         thanks="I will sit in it every evening"),
    dict(gift="pot of honey", make="bring home a pot of honey", missing="{he} was afraid of the "
        "bees", helpers=BEEKEEPER,
         help="\"I will go with you,\" said {f}. \"The bees know me well.\"",
         work="Together they filled the pot, slowly and softly, and {n} tied a [red"
              "|blue] ribbon around it.",
         thanks="It is as sweet as you are"),
    dict(gift="song", make="sing a song", missing="{he} did not know a song that was good enough",
        helpers=SINGER,
         help="\"Then we will make a new one,\" said {f}, and they tried one tune after another.",
         work="{N} sang the new song again and again until {he} knew [every word|it by heart].",
         thanks="Nobody ever made a song for me before"),
    dict(gift="lantern", make="make a lantern", missing="the iron was too hard to bend",
        helpers=SMITH,
         help="\"Iron is soft when it is hot,\" said {f}, and {fhe} put it into the fire and bent "
              "it like a ribbon.",
         work="{N} set a candle inside and painted [stars|little birds] on the glass.",
         thanks="Now I can see your face in the dark"),
]
