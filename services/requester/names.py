"""Names for beasts: four words each, about six million combinations."""

import random

COLOURS = (
    "amber ashen azure beige bronze cobalt copper coral crimson cyan dusky ebony emerald fawn flaxen ginger golden "
    "grey hazel indigo ivory jade khaki lavender lilac lime livid magenta maroon mauve mint ochre olive pearl pink "
    "plum purple red rose ruby russet rusty sable saffron sandy scarlet silver tawny teal umber vermilion violet white"
).split()
TEMPERS = (
    "able bold brave brisk calm canny civil clever coy crafty cross curt daring deft dour droll eager earnest fierce "
    "fond frank gentle glad grave grim gruff hardy hasty humble idle jolly keen kind lofty loyal meek merry mild moody "
    "noble odd patient placid polite proud quaint quick quiet rash rude shrewd shy sly sober solemn stern stout subtle "
    "sullen surly tame timid vain wary wild wise witty zany"
).split()
ANIMALS = (
    "adder badger bat bear beaver bison boar camel cat cobra condor coyote crane crow deer dingo dove eagle eel elk "
    "falcon ferret finch fox frog gecko goat goose hare hawk heron horse hyena ibex ibis jackal jaguar kestrel kite "
    "koala lark lemur lion lizard llama lynx magpie marten mole moose mouse newt ocelot osprey otter owl panda "
    "parrot pigeon puma quail rabbit raven salmon seal skunk sloth snail snake sparrow stoat stork swan tapir "
    "tiger toad trout turtle viper vole walrus weasel whale wolf wombat yak zebra"
).split()
PLACES = "bog brook cave cliff coast creek dale delta dune fen field ford glen grove heath hill isle lake marsh".split()


def random_name(rng: random.Random) -> str:
    """Return a name such as `russet_sly_otter_glen`."""
    return "_".join(rng.choice(words) for words in (COLOURS, TEMPERS, ANIMALS, PLACES))
