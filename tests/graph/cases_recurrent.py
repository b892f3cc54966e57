"""More rows of the table of cases: recurrent layers, and masks of steps."""

import keras
from building import CLASSES

L = keras.layers
STEPS = 2


def halved(x):
    return 0.5 * x


def recurrent():
    """Every kind, one after another, and every way to run one."""
    x = keras.Input((STEPS, 3))
    y = L.Masking(0.5)(L.Dense(4)(x))
    y = L.SimpleRNN(4, return_sequences=True, go_backwards=True)(y)
    y = L.LSTM(5, return_sequences=True, activation=halved)(y)
    y = L.GRU(4, return_sequences=True, reset_after=False, unroll=True, use_bias=False)(y)
    y = L.RNN(L.StackedRNNCells([L.GRUCell(4, recurrent_activation=halved), L.SimpleRNNCell(3)]))(y)
    return keras.Model(x, L.Dense(CLASSES)(y))


def states():
    """An encoder's states, one of them computed on, begin a decoder; a layer is called with and without."""
    x, z = keras.Input((STEPS, 3)), keras.Input((2, 4))
    _, h, c = L.LSTM(5, return_state=True)(x)
    y = L.LSTM(5, return_sequences=True)(z, initial_state=[L.Dense(5)(h), c])
    shared = L.GRU(4, return_state=True)
    first, state = shared(y)
    second, _ = shared(y, initial_state=state)
    return keras.Model([x, z], L.Dense(CLASSES)(L.Concatenate()([first, second])))


def masked_text():
    """Words of which 0 is none, read both ways; what a layer looked into, and a nested model, get of it."""
    x = keras.Input((STEPS + 1,), dtype="int32")
    y = L.Embedding(4, 6, mask_zero=True)(x)
    y = L.Bidirectional(L.GRU(4, return_sequences=True), merge_mode="ave")(y)
    y = L.Add()([y, L.MultiHeadAttention(1, 3)(y, y)])
    i = keras.Input((STEPS + 1, 4))
    y = keras.Model(i, L.SimpleRNN(3, return_sequences=True)(L.LayerNormalization()(i)))(y)
    return keras.Model(x, L.Dense(CLASSES)(L.GlobalAveragePooling1D()(L.TimeDistributed(L.Dense(4))(y))))


def recurrent_convolutions():
    x = keras.Input((2, 3, 3, 2))
    y = L.ConvLSTM2D(3, 2, padding="same", return_sequences=True)(x)
    z = L.ConvLSTM1D(3, 2)(L.Reshape((2, 9, 3))(y))
    w = L.ConvLSTM3D(2, (2, 2, 1))(L.Reshape((2, 3, 3, 1, 3))(y))
    return keras.Model(x, L.Dense(CLASSES)(L.Concatenate()([L.Flatten()(z), L.Flatten()(w)])))


RECURRENT_CASES = {
    function.__name__: function for function in (recurrent, states, masked_text, recurrent_convolutions)
}
