module coffeeshop
