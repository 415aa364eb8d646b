"""Controls on a page: each sets the values of one topic ``notebook/NAME``.

    values       Slider, Toggle, Button, Select, Text
    motion       Joystick, Keys, Gamepad, with a dead-man
    estop        EStop
    publishing   publish(), for widgets of ipywidgets

`base` has what they share. Each module has a `.js` beside it, which follows control.js.
"""
