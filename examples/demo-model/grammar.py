#!/usr/bin/env python3
"""A small story grammar: the only source of the demo model's training text.

A story is told by one of six shapes (a wish, a lost thing, a fear, a quarrel, a kindness
returned, a gift). A shape first chooses the facts (who, where, which wish, which trouble, which
helper can mend it) and then tells them, so the parts of a story fit together. The words are in
story_parts.py.

Each choice among m alternatives costs ln(m) nats. Their sum over a story bounds the entropy of
the text from above, which gives the training loss something to be compared with.
"""

import argparse
import functools
import math
import random

import story_parts as parts


def tell_wish(t):
    """A wish, the trouble in its way, a helper who can mend it, the wish come true."""
    wish = t.pick(parts.WISHES)
    trouble, helpers, advice, action = t.pick(wish["ways"])
    t.set_friend(helpers)
    t.facts.update(wish=wish["wish"])
    t.say(t.pick(["{opening}" + parts.WISH_LINE] * 3 + [
        "\"I want {wish}!\" said {n}. {N} was a [little|small|young] {k} who lived {place}."]))
    t.say(wish["dream"], trouble, parts.FEELING, parts.MEETING)
    t.say("[{N} told {f} everything.|\"I want {wish},\" said {n}, \"but I do not know how.\"|{N} "
          "told the {fk} about {his} wish.]")
    t.say(advice, action, wish["end"], parts.CLOSING)


def tell_lost(t):
    """A treasure is lost, the one who knows that kind of place helps, and it is used again."""
    things, spots = t.pick([(parts.SMALL_THINGS, parts.SMALL_SPOTS),
                            (parts.LIGHT_THINGS, parts.LIGHT_SPOTS)])
    item, joy = t.pick(things)
    lost, helpers, advice, found = t.pick(spots)
    t.set_friend(helpers)
    t.facts.update(item=item)
    t.say("{opening}[{He} had a {item}, and {he} loved it very much."
          "|{His} [grandmother|grandfather|uncle] had given {him} a {item}, and {he} took it "
          "everywhere."
          "|{His} greatest treasure was a {item}.]")
    t.say("[One day|One morning|One windy day|One afternoon], [while {n} was playing|when {n} was "
          "running home], the {item} " + lost + ".")
    t.say("[\"Oh no!\" cried {n}. \"My {item}!\"|\"My {item} is gone!\" cried {n}.|{N} looked and "
          "called, but {he} could not reach it.]")
    t.say(parts.FEELING, parts.MEETING)
    t.say("[\"I have lost my {item},\" said {n}.|{N} told {f} about the {item}.|\"My {item} is "
          "gone,\" said {n}, \"and I cannot get it back.\"]")
    t.say(advice, found, "[\"Is this yours?\" asked {f}.|\"Here it is,\" said {f}.|\"Look what I "
                         "have,\" said {f}.]", joy, parts.CLOSING)


def tell_fear(t):
    """The hero is afraid of one thing, a friend needs help just there, and courage is found."""
    fear = t.pick(parts.FEARS)
    t.set_friend([k for k in dict.fromkeys(parts.HEROES) if k != "child"])
    t.facts.update(fear=fear["fear"])
    t.say("{opening}[{N} was afraid of {fear}.|There was only one thing that {n} feared: {fear}."
          "|{N} was brave, but {he} was afraid of {fear}.]")
    t.say(fear["sign"])
    t.say("[{His} best friend was a {fk} named {f}.|{He} had a good friend, a {fk} named "
          "{f}.|Next door lived {his} friend {f}, a {fk}.]")
    t.say(fear["need"], "[\"I must help {f},\" thought {n}.|\"I am afraid,\" said {n}, \"but {f} "
                        "needs me.\"|There was nobody else to help.]")
    t.say(fear["brave"], fear["end"])
    t.say("[From that day on, {n} was not afraid of {fear} any more.|\"You are the bravest {k} I "
          "know,\" said {f}."
          "|And {n} learned that to be brave is to be afraid and still go on.|That evening {n} "
          "was very tired and very proud."
          "|\"Thank you, {n},\" said {f}. \"You are a true friend.\"]")


def tell_quarrel(t):
    """Two friends want one thing, learn that quarrelling spoils it, and find how to share it."""
    quarrel = t.pick(parts.QUARRELS)
    t.set_friend([k for k in dict.fromkeys(parts.HEROES) if k != "child"])
    t.facts.update(item=quarrel["item"])
    t.say("{opening}[{His} best friend was a {fk} named {f}.|{He} had a good friend, a {fk} named "
          "{f}.|Next door lived {his} friend {f}, a {fk}.]")
    t.say("[They did everything together.|They played together every day.|]", quarrel["found"])
    t.say("[\"The {item} is mine!\" said {n}. \"No, it is mine!\" said {f}.|\"I saw the {item} "
          "first!\" said {f}. \"No, I did!\" said {n}."
          "|{N} wanted the {item}, and {f} wanted it too.]")
    t.say(quarrel["harm"])
    t.say("[They looked at each other and were ashamed.|Then it was very quiet.|{F} began to cry, "
          "and {n} felt sorry.|For a while nobody spoke.]")
    t.say(quarrel["idea"], "[\"That is a good idea,\" said {f}.|{F} smiled and nodded.|\"Yes, let "
                           "us do that,\" said {f}.]", quarrel["end"])
    t.say("[\"Half of the {item} with you is better than all of it alone,\" said {f}.|They never "
          "quarreled about the {item} again."
          "|And they learned that a thing is nicer when it is shared.|From that day on, {n} and "
          "{f} shared everything."
          "|\"I am glad that you are my friend,\" said {n}.]")


def tell_kindness(t):
    """The hero helps somebody small, and later just that small one can help the hero."""
    kindness = t.pick([k for k in parts.KINDNESSES if k["kind"] != t.facts["k"]])
    t.set_friend([kindness["kind"]])
    t.say("{opening}[One day|One morning|One evening|On the way home one day] {n} [saw|found|met] "
          + kindness["plight"] + ".")
    t.say("[\"Please help me,\" said the {fk}.|\"Will you help me?\" asked the {fk} in a very "
          "small voice.|\"Poor thing,\" said {n}.]")
    t.say(kindness["rescue"])
    t.say("[\"Thank you,\" said {f}. \"I will not forget this.\""
          "|\"One day I will help you too,\" said {f}."
          "|\"You are kind,\" said {f}. {N} smiled and thought, \"What could a little {fk} do for "
          "me?\"]")
    t.say(kindness["later"])
    t.say("[{N} was sad and did not know what to do.|\"What can I do?\" {he} said."
          "|{N} wanted to cry.]")
    t.say(kindness["repay"], kindness["end"])
    t.say("[\"Thank you, {f},\" said {n}. \"[How good that we met"
          "|You are small, but your heart is big].\""
          "|And {n} knew that nobody is too small to help.|From that day on, {n} and {f} were "
          "friends."
          "|A small kindness had come back to {n}, and it had grown on the way."
          "|\"Now we are even,\" said {f}. \"No,\" said {n}, \"now we are friends.\"]")


def tell_gift(t):
    """A birthday is near, the gift lacks one thing, someone who has it helps."""
    gift = t.pick(parts.GIFTS)
    t.set_friend(gift["helpers"])
    who, her = t.pick([("mother", "her"), ("grandmother", "her"), ("father", "him"),
                       ("grandfather", "him"), ("sister", "her"), ("brother", "him")])
    if gift["thanks"] == "I feel like a queen":
        queens = {"father": "mother", "grandfather": "grandmother", "brother": "sister"}
        who, her = queens.get(who, who), "her"
    t.facts.update(who=who, her=her, gift=gift["gift"], make=gift["make"])
    t.say("{opening}[Soon it was the birthday of {his} {who}."
          "|The next day was the birthday of {his} {who}.|{His} {who} had a birthday that week.]")
    t.say("[\"I will {make} for {her},\" said {n}.|{N} wanted to {make} for {her}."
          "|\"What can I give {her}?\" thought {n}. \"I know! I will {make}.\"]")
    t.say("But " + gift["missing"] + ".", parts.FEELING, parts.MEETING)
    t.say("[\"It is the birthday of my {who},\" said {n}, \"and I want to {make}.\""
          "|{N} told {f} about the birthday and the {gift}.]")
    t.say(gift["help"], gift["work"])
    t.say("On the birthday {n} [gave the {gift} to {his} {who}|came in with the {gift}"
          "|brought the {gift} to {his} {who}]."
          if gift["gift"] != "song" else "On the birthday {n} [sang the song for {his} {who}"
              "|stood up and sang the song].")
    t.say("\"" + gift["thanks"] + ",\" said {his} {who}, and [gave {n} a kiss"
        "|hugged {n} for a long time|had tears of joy].")
    t.say("[{F} was invited too, and they all ate cake together."
          "|\"{F} helped me,\" said {n}, and there was cake for {f} too."
          "|And {n} learned that giving is as sweet as getting."
          "|That night {n} was too happy to sleep.|It was the best birthday of all.]")


# How often each shape is told.
SHAPES = [tell_wish] * 4 + [tell_lost] * 2 + [tell_fear, tell_quarrel, tell_kindness, tell_gift]


@functools.cache
def parse(template):
    """Template -> sequence of str (text), tuple (alternatives) and list (one fact name)."""
    def sequence(i, depth):
        found, text = [], ""
        while i < len(template):
            c = template[i]
            if c in "[{" and text:
                found.append(text)
                text = ""
            if c == "[":
                options = []
                while True:
                    option, i = sequence(i + 1, depth + 1)
                    options.append(option)
                    if template[i] == "]":
                        break
                found.append(tuple(options))
            elif c == "{":
                end = template.index("}", i)
                found.append([template[i + 1:end]])
                i = end
            elif c in "|]" and depth:
                break
            else:
                text += c
            i += 1
        if text:
            found.append(text)
        return tuple(found), i

    return sequence(0, 0)[0]


class Teller:
    """Tells one story: holds its facts, its text so far and the nats spent on choices."""

    def __init__(self, rng):
        self.rng, self.told, self.nats = rng, [], 0.0
        girl = self.pick([True, False])
        self.name = self.pick(parts.GIRLS if girl else parts.BOYS)
        kind = self.pick(parts.HEROES)
        place, ground = self.pick(parts.PLACES)
        he, him, his = ("she", "her", "her") if girl else ("he", "him", "his")
        if kind == "child":
            kind = "girl" if girl else "boy"
        self.facts = dict(n=self.name, k=kind, he=he, him=him, his=his, place=place, ground=ground,
                          opening=parts.OPENING)

    def pick(self, options):
        """One of the options, each equally likely."""
        self.nats += math.log(len(options))
        return options[self.rng.randrange(len(options))]

    def set_friend(self, kinds):
        """Chooses the other character, whose kind and name are not the hero's."""
        girl = self.pick([True, False])
        name = self.pick([n for n in (parts.GIRLS if girl else parts.BOYS) if n != self.name])
        kind = self.pick([k for k in kinds if k != self.facts["k"]])
        fhe, fhim, fhis = ("she", "her", "her") if girl else ("he", "him", "his")
        self.facts.update(f=name, fk=kind, fhe=fhe, fhim=fhim, fhis=fhis)

    def expand(self, sequence):
        """The text of a parsed template, with its choices made and its facts filled in."""
        out = ""
        for part in sequence:
            if isinstance(part, str):
                out += part
            elif isinstance(part, tuple):
                out += self.expand(self.pick(part))
            else:
                name = part[0]
                text = self.expand(parse(self.facts[name[0].lower() + name[1:]]))
                out += text[:1].upper() + text[1:] if name[0].isupper() else text
        return out

    def say(self, *templates):
        """Adds sentences to the story."""
        for template in templates:
            self.told.append(self.expand(parse(template)).strip())


def story(rng):
    """Tells one story: (text, nats spent on its choices)."""
    teller = Teller(rng)
    teller.pick(SHAPES)(teller)
    return " ".join(part for part in teller.told if part), teller.nats


def stories(seed, count):
    """A list of `count` stories (text, nats), the same for the same seed."""
    rng = random.Random(seed)
    return [story(rng) for _ in range(count)]


def main():
    """Prints stories."""
    args = argparse.ArgumentParser(description="Tell stories from the grammar.")
    args.add_argument("--seed", type=int, default=1, help="seed of the random choices (default 1)")
    args.add_argument("--count", type=int, default=3, help="how many stories (default 3)")
    args = args.parse_args()
    for text, nats in stories(args.seed, args.count):
        print(f"{text}\n  [{len(text.split())} words, {nats:.1f} nats of choices]\n")


if __name__ == "__main__":
    main()
